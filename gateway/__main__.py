"""`python -m gateway` is `glm-gateway`."""

from gateway.cli import main

main()
