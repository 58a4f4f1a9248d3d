"""Text to vectors, nearest neighbours, and the raters that read the text of items."""
