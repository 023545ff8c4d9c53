"""Where the api comes in on behalf of users."""
