"""HTTP door of vehicles."""

from collections.abc import Sequence

from dispatch.kit.route import Answered, Call, Route
from dispatch.providers.vehicles.service import Vehicles
from protocol.errors import ErrorCode
from protocol.resources import papers


def routes(vehicles: Vehicles) -> Sequence[Route]:
    async def add(call: Call) -> Answered:
        answer = await vehicles.add(call.actor, call.body, call.key)
        return Answered(answer.body, answer.status)

    async def mine(call: Call) -> Answered:
        return Answered(await vehicles.mine(call.actor))

    async def change(call: Call) -> Answered:
        return Answered(await vehicles.change(call.actor, call.id("id"), call.body))

    async def activate(call: Call) -> Answered:
        return Answered(await vehicles.activate(call.actor, call.id("id")))

    return [
        Route(
            "POST",
            "/v1/providers/me/vehicles",
            add,
            "Register a vehicle; an admin approves",
            papers.OwnVehicle,
            body=papers.VehicleRequest,
            status=201,
            errors=(
                ErrorCode.PROVIDER_NOT_FOUND,
                ErrorCode.PROVIDER_SUSPENDED,
                ErrorCode.PLATE_TAKEN,
                ErrorCode.DOCUMENT_NOT_FOUND,
            ),
            idempotent=True,
        ),
        Route(
            "GET",
            "/v1/providers/me/vehicles",
            mine,
            "The own vehicles",
            papers.Vehicles,
            errors=(ErrorCode.PROVIDER_NOT_FOUND,),
        ),
        Route(
            "PATCH",
            "/v1/providers/me/vehicles/{id}",
            change,
            "Change an own vehicle; another plate, type, registration document or a later date is verified again",
            papers.OwnVehicle,
            body=papers.VehiclePatch,
            errors=(
                ErrorCode.VEHICLE_NOT_FOUND,
                ErrorCode.PROVIDER_SUSPENDED,
                ErrorCode.DOCUMENT_NOT_FOUND,
                ErrorCode.PLATE_TAKEN,
                ErrorCode.CONCURRENT_MODIFICATION,
                ErrorCode.PROVIDER_HAS_ACTIVE_JOB,
            ),
        ),
        Route(
            "POST",
            "/v1/providers/me/vehicles/{id}/activate",
            activate,
            "Put an approved vehicle into use instead of the other one",
            papers.OwnVehicle,
            errors=(
                ErrorCode.VEHICLE_NOT_FOUND,
                ErrorCode.PROVIDER_SUSPENDED,
                ErrorCode.VEHICLE_NOT_APPROVED,
                ErrorCode.PROVIDER_HAS_ACTIVE_JOB,
            ),
        ),
    ]
