"""The client of language models: `LLM.ask` answers questions, and pays for each answer once."""
