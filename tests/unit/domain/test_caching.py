"""Two plans have the same name exactly when the upstream would be sent the same."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.caching import plan_name
from gateway.domain.image import ImagePlan
from tests.builders import a_plan

# Few letters, among them those that an encoding could confuse: most pairs differ by where one text ends.
words = st.text(alphabet='a",\\[] \ud800é', max_size=4)
plans = st.builds(
    ImagePlan,
    model=words,
    prompt=words,
    size=words,
    quality=st.sampled_from(["hd", "standard"]),
    watermark=st.booleans(),
    user_id=st.one_of(st.none(), words),
)


@given(plans, plans)
def test_equal_plans_have_equal_names_and_no_others(one, other):
    same = replace(one, user_id=None) == replace(other, user_id=None)
    assert (plan_name(one) == plan_name(other)) is same


@given(plans, st.one_of(st.none(), words))
def test_the_end_user_changes_no_picture(plan, user):
    assert plan_name(plan) == plan_name(replace(plan, user_id=user))


def test_every_word_that_is_sent_counts():
    changes = ({"model": "m"}, {"prompt": "p"}, {"size": "1x1"}, {"quality": "standard"}, {"watermark": False})
    names = {plan_name(a_plan(**change)) for change in ({}, *changes)}
    assert len(names) == len(changes) + 1


def test_names_do_not_change_from_one_release_to_the_next():
    assert plan_name(a_plan()) == "00459225ddf0ed692affb264c911093eb914b056d0a32cc745be9e3e6ba36ef6"
