"""The runtime for LLM agents on trio whose answers must get through."""
