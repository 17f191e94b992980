"""The report as one page of HTML and one of Markdown."""
