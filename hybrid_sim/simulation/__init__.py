"""The simulator, simulations with or without a language model, their explanations and their run folders."""
