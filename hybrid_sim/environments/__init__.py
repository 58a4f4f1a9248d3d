"""Reinforcement-learning environments in which a person's answers hang together, and their proof against real logs."""
