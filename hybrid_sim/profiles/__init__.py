"""What users are like, in words that change as they rate."""
