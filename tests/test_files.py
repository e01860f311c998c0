import math

from hwtune.files import dump


def test_json_holds_null_where_a_number_is_not_finite():
    assert dump({"a": [math.nan, 1.0]}) == '{\n "a": [\n  null,\n  1.0\n ]\n}\n'
