"""`python -m calipose`."""

from calipose.cli import main

main()
