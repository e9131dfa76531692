"""Reading images and videos from files, URLs and webcams; writing videos."""
