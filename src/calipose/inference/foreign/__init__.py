"""Other projects' models under Calipose's contract: one file a family, one table of their forms."""
