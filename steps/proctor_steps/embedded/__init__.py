"""What Proctor ships to try it with: small, free, and made by committed scripts."""
