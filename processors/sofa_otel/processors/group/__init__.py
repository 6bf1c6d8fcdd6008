"""Function swarms: thousands of call paths folded into a few dozen things a person can name, with ids that outlive a run."""
