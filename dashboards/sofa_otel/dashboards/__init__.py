"""What a person looks at: the page and the terminal summary of a run."""
