"""The service: images in over HTTP, poses out as JSON; and the page that uses it (needs the extra `serve`)."""
