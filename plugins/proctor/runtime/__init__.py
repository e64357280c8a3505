"""Where steps run: in containers, as processes, or (tests) not at all. One protocol for all."""
