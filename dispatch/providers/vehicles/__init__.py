"""A provider's vehicles: registered, verified, one of them in use, verified again when what identifies it changes."""

from dispatch.providers.vehicles.errors import VehicleMissing
from dispatch.providers.vehicles.service import Vehicles

__all__ = ["VehicleMissing", "Vehicles"]
