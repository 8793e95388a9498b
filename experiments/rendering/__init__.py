"""Reports as Markdown and HTML, and their plots."""
