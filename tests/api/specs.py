"""Specs near the border between valid and invalid, for the question whether both judges agree."""

from __future__ import annotations

from hypothesis import strategies as st

word = st.sampled_from(["a", "b-1", "eu-only", "A", "a.b", "kube-system", "x" * 63, "x" * 64, ""])
country = st.sampled_from(["DE", "FR", "CH", "EL", "UK", "de", "ZZ", ""])
labels = st.dictionaries(st.sampled_from(["a", "b.c/d", "a b", "/", "-"]), word, max_size=3)
requirement = st.fixed_dictionaries(
    {"key": word, "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt"])},
    optional={"values": st.lists(word, max_size=2)},
)
selector = st.fixed_dictionaries(
    {}, optional={"matchLabels": labels, "matchExpressions": st.lists(requirement, max_size=2)}
)
condition = st.fixed_dictionaries(
    {"type": st.sampled_from(["GpuMemWatch", "Ready", "a.b/C", "a b", ""])},
    optional={"unhealthyStatus": st.sampled_from(["True", "False", "Ignored", "true", ""])},
)
SPECS = {
    "GpuPool": st.fixed_dictionaries(
        {
            "location": st.fixed_dictionaries(
                {"country": country, "region": word}, optional={"site": word}
            )
        },
        optional={
            "health": st.fixed_dictionaries(
                {}, optional={"conditions": st.lists(condition, max_size=2)}
            ),
            "placement": st.fixed_dictionaries(
                {},
                optional={
                    "mode": st.sampled_from(["Pack", "Preferred", "Delegate", "pack"]),
                    "barePods": st.sampled_from(["Keep", "Delete", ""]),
                },
            ),
            "nodes": st.fixed_dictionaries(
                {},
                optional={
                    "enrolment": st.sampled_from(["Labelled", "Selector", "Both"]),
                    "selector": selector,
                },
            ),
        },
    ),
    "TenantQuota": st.fixed_dictionaries(
        {
            "namespaces": st.lists(word, max_size=3),
            "residencyPolicies": st.lists(word, max_size=2),
        },
        optional={
            "pools": st.lists(
                st.fixed_dictionaries(
                    {"name": word}, optional={"guaranteed": st.integers(-1, 1_000_001)}
                ),
                max_size=2,
            )
        },
    ),
    "DataResidencyPolicy": st.fixed_dictionaries(
        {
            "countries": st.fixed_dictionaries(
                {},
                optional={
                    "sets": st.lists(st.sampled_from(["EU", "EEA", "EEA_CH", "US"]), max_size=2),
                    "include": st.lists(country, max_size=2),
                    "exclude": st.lists(country, max_size=2),
                },
            )
        },
        optional={
            "enforcement": st.sampled_from(["Deny", "Warn", "Off"]),
            "onDrift": st.fixed_dictionaries(
                {},
                optional={
                    "action": st.sampled_from(["Alert", "Evict", "Delete"]),
                    "graceSeconds": st.integers(-1, 604801),
                },
            ),
        },
    ),
}
