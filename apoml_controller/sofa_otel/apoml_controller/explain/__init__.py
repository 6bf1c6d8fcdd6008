"""The one rule engine: what limits this job, ranked, with evidence. It fills the report's findings too."""
