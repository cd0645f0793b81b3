"""Customer messages that come with tfft, and a demonstration on them: see README.md beside this file."""
