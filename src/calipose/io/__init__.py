"""Images and videos, from where they lie to arrays, and back to files."""
