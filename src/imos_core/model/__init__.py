"""The stateless network: state goes in, state comes out."""

from imos_core.model.network import IMOS, Guide, QueryFeatures, soft_aggregate

__all__ = ["IMOS", "Guide", "QueryFeatures", "soft_aggregate"]
