"""Images and the registries that they come from, in GraphQL: what is shown, what is asked, and what is changed."""
