"""The report of an evaluation as a page to read: Markdown, HTML and plots."""
