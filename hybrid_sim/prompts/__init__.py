"""The words that language models are given, beside the schemas of their replies."""
