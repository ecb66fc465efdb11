"""The admission policies: what holds while the operator is dead.

The API server itself evaluates them. This package only writes them down, once, and renders
them to manifests and to chart templates. There is no webhook, and nothing here runs in the
operator.
"""
