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
countries = st.fixed_dictionaries(
    {},
    optional={
        "sets": st.lists(
            st.sampled_from(["EU", "EU@2020-02-01", "ADEQUATE", "EU@2019-01-01"]), max_size=2
        ),
        "include": st.lists(country, max_size=1),
    },
)
trust = st.sampled_from(["Declared", "Verified", "verified"])
evidence = st.fixed_dictionaries(
    {
        "uri": st.sampled_from(["https://a/b", "there", ""]),
        "sha256": st.sampled_from(["0" * 64, "0" * 63, "Z" * 64]),
    }
)
attested = {
    "trust": trust,
    "verifiedBy": word,
    "validUntil": st.sampled_from(["2027-01-31", "2027-02-30", "soon", ""]),
    "evidence": evidence,
}
sovereignty = st.fixed_dictionaries(
    {},
    optional={
        "support": st.fixed_dictionaries(
            {"countries": st.lists(country, max_size=2)}, optional=attested
        ),
        "keys": st.fixed_dictionaries(
            {"holder": st.sampled_from(["Customer", "Me"]), "country": country}, optional=attested
        ),
        "companies": st.lists(
            st.fixed_dictionaries(
                {
                    "legalName": word,
                    "country": country,
                    "roles": st.lists(st.sampled_from(["Support", "Owner"]), max_size=2),
                },
                optional=attested,
            ),
            max_size=2,
        ),
    },
)
perimeter = {
    "registries": st.fixed_dictionaries(
        {
            "allowed": st.lists(
                st.sampled_from(
                    ["a.eu/", "a.eu", "a/", "localhost/", "a:5000/x/", "A.eu/", "a.eu//"]
                ),
                max_size=2,
            )
        }
    ),
    "egress": st.fixed_dictionaries(
        {},
        optional={
            "networks": st.lists(
                st.sampled_from(
                    [
                        "10.0.0.0/8",
                        "10.0.0.1/8",
                        "::/0",
                        "1.2.3.4",
                        "a/8",
                        "10.0.0.0/33",
                        "2001:db8::1/128",
                    ]
                ),
                max_size=2,
            ),
            "namespaces": st.lists(word, max_size=2),
        },
    ),
    "services": st.fixed_dictionaries(
        {"allow": st.lists(st.sampled_from(["LoadBalancer", "Everything"]), max_size=2)}
    ),
    "access": st.fixed_dictionaries({"countries": countries}),
    "require": st.fixed_dictionaries(
        {},
        optional={
            "support": st.fixed_dictionaries({"countries": countries}, optional={"trust": trust}),
            "roles": st.lists(
                st.fixed_dictionaries(
                    {"role": st.sampled_from(["Support", "Owner"]), "countries": countries}
                ),
                max_size=2,
            ),
        },
    ),
}
SPECS = {
    "GpuPool": st.fixed_dictionaries(
        {
            "location": st.fixed_dictionaries(
                {"country": country, "region": word}, optional={"site": word}
            )
        },
        optional={
            "sovereignty": sovereignty,
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
            **perimeter,
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
