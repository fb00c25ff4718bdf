"""GLM-Image as glm-image-api.md describes it, with faults on demand; shares no code with the rest of the gateway."""

from gateway.simulator.app import create_simulator
from gateway.simulator.options import Language, SimulatorOptions

__all__ = ["Language", "SimulatorOptions", "create_simulator"]
