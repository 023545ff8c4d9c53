"""What a container registry answers: a careful reader of the Docker Registry v2 API, and of Harbor's own."""
