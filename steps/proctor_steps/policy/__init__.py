"""Usage policy: what a dataset's licences and policies say of the purpose that a spec declares."""
