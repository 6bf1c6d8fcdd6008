"""Changes a job: ``observe → explain → project → search → verify → apply``. So far: explain."""
