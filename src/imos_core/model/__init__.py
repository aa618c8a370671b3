"""The stateless network: state goes in, state comes out."""

from imos_core.model.guide import Guide, frame_flow
from imos_core.model.network import IMOS, QueryFeatures, soft_aggregate

__all__ = ["IMOS", "Guide", "QueryFeatures", "frame_flow", "soft_aggregate"]
