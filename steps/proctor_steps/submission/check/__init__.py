"""The validator of submissions: :func:`proctor_steps.submission.check.run.check`."""
