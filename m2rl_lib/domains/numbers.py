"""When two numbers are equal: in place of math-verify's comparison, which rounds to 6 decimals and so takes 1/2004! for 0.

Rational numbers are compared exactly, other closed forms to 50 digits and those of their powers and factorials. A decimal
stands for a value that no such decimal is (1/3, √2) if it is right to 6 decimals (below 1: significant digits), for another
decimal if it is its rounding and has at least 6 digits. 9% is 0.09 and 9. Expressions with unknowns: at fixed points.
"""

from decimal import Decimal
from fractions import Fraction

import mpmath
from sympy import Add, E, Equality, Float, Function, Mul, Pow, Rational, UnevaluatedExpr, factorial, pi, preorder_traversal
from sympy.matrices import MatrixBase
from sympy.matrices.expressions import MatrixExpr

DIGITS, MOST_DIGITS = 50, 4000
MOST_BITS = 200_000  # of an exact numerator or denominator
DECIMALS = 6  # of a decimal that stands for another value
POINTS = (Rational(7, 5), Rational(-11, 7), Rational(23, 9), Rational(-5, 13))  # where expressions with unknowns are compared


def install(grader) -> None:
    """Make math-verify's grader compare by the rules above."""
    original, symbolic = grader.sympy_numeric_eq, grader.sympy_symbolic_eq

    def numeric_equal(a, b, float_rounding, numeric_precision) -> bool:
        if any(isinstance(side, MatrixBase | MatrixExpr) for side in (a, b)):
            return original(a, b, float_rounding, numeric_precision)
        found = same(a, b)
        return _same_at_points(a, b) if found is None else found

    def symbolic_equal(a, b) -> bool:
        if any(isinstance(side, MatrixBase | MatrixExpr) for side in (a, b)):
            return symbolic(a, b)
        if same(a, b) is False or a.is_rational_function() and b.is_rational_function() and not _same_at_points(a, b):
            return False  # what sympy could add is time
        return symbolic(a, b)

    grader.sympy_numeric_eq, grader.sympy_symbolic_eq = numeric_equal, symbolic_equal


def readable(parsed: list) -> bool:
    """Whether what math-verify made of an expected answer is more than its text, and no sequence defined by its own terms."""
    found = next((part for part in parsed if not isinstance(part, str)), None)
    if not isinstance(found, Equality):
        return found is not None
    stem, subscript, _ = str(found.lhs).partition("_")
    return not subscript or not any(name.name.startswith(f"{stem}_") for name in found.rhs.free_symbols)


def same(a, b) -> bool | None:
    """Whether two sympy numbers are equal; None where one of them is no number."""
    percents = [_percent(side) for side in (a, b)]
    if any(value is not None for value in percents):
        bare = [side if value is None else value for side, value in zip((a, b), percents)]
        worth = [side if value is None else value * Rational(1, 100) for side, value in zip((a, b), percents)]
        return same(*bare) or same(*worth)
    try:
        if a.free_symbols or b.free_symbols:
            return None
        exact = exact_value(a), exact_value(b)
        rounded = a.has(Float) or b.has(Float)
        if None not in exact:
            return exact[0] == exact[1] or rounded and _rounds(*exact)
        digits = DIGITS + min(MOST_DIGITS, _size(a) + _size(b))
        with mpmath.workdps(digits + 10):
            values = [_value(side, digits) for side in (a, b)]
            if not all(mpmath.isfinite(value) for value in values):
                return bool(a == b)
            difference = abs(values[0] - values[1])
            if rounded:
                return bool(difference <= _tolerance(max(values, key=abs)))
            return bool(difference <= mpmath.mpf(10) ** (15 - digits) * max(map(abs, values)))
    except (AttributeError, TypeError, ValueError, NotImplementedError, ZeroDivisionError, OverflowError):
        return None


def exact_value(expression) -> Fraction | None:
    """The value of an expression of rational numbers, decimals, powers and factorials; None of any other, or of a huge one."""
    if isinstance(expression, Float):
        return Fraction(Decimal(str(expression)))
    if isinstance(expression, Rational):
        return Fraction(int(expression.p), int(expression.q)) if expression.is_finite else None
    if not isinstance(expression, Add | Mul | Pow | UnevaluatedExpr | factorial):
        return None
    parts = [exact_value(part) for part in expression.args]
    if None in parts:
        return None
    if isinstance(expression, Pow):
        base, power = parts
        bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(power)
        return base**power.numerator if power.denominator == 1 and bits <= MOST_BITS and (base or power >= 0) else None
    if isinstance(expression, factorial):
        whole = parts[0].denominator == 1 and 0 <= parts[0] <= 10_000
        return Fraction(int(mpmath.libmp.ifac(parts[0].numerator))) if whole else None
    total = parts[0]
    for part in parts[1:]:
        total = total + part if isinstance(expression, Add) else total * part
        if max(total.numerator.bit_length(), total.denominator.bit_length()) > MOST_BITS:
            return None
    return total


def _percent(expression):
    """x of x%, which math-verify reads as x · 1/100, unevaluated; None of anything else."""
    hundredth = UnevaluatedExpr(Rational(1, 100))
    found = isinstance(expression, Mul) and len(expression.args) == 2 and expression.args[1] == hundredth
    return expression.args[0] if found else None


def _rounds(a: Fraction, b: Fraction) -> bool:
    """Whether a decimal stands for another rational number."""
    # decimals of each, None where they do not end, or not soon
    places = [next((n for n in range(40) if (value * 10**n).denominator == 1), None) for value in (a, b)]
    if None not in places:
        (fewer, short), (_, long) = sorted(zip(places, (a, b)))
        return fewer > 0 and len(str(abs(short * 10**fewer).numerator)) >= DECIMALS and 2 * abs(short - long) * 10**fewer <= 1
    with mpmath.workdps(DIGITS):
        exact = a if places[0] is None else b
        tolerance = _tolerance(mpmath.mpf(exact.numerator) / exact.denominator)
        return bool(mpmath.mpf(abs(a - b).numerator) / abs(a - b).denominator <= tolerance)


def _tolerance(value) -> mpmath.mpf:
    size = int(mpmath.floor(mpmath.log10(abs(value)))) + 1 if value else 0
    return mpmath.mpf(10) ** (min(0, size) - DECIMALS) / 2


def _size(expression) -> int:
    """Digits before or after the point of the powers and factorials in an expression of numbers."""
    found = 0
    for part in preorder_traversal(expression):
        if isinstance(part, Pow | Function):
            value = abs(_value(part, 5))
            found += int(abs(mpmath.log10(value))) if value and mpmath.isfinite(value) else 0
    return found


def _value(expression, digits: int):
    value = expression.evalf(digits)
    if value.is_Float and value._prec == 1:
        return mpmath.mpf(0)  # what evalf gives for a zero in disguise
    if not value.is_number or value.has(pi, E) and not value.is_Atom:
        raise ValueError("no number")
    real, imaginary = value.as_real_imag()
    return mpmath.mpc(real._to_mpmath(mpmath.mp.prec), imaginary._to_mpmath(mpmath.mp.prec))


def _same_at_points(a, b) -> bool:
    """Whether two expressions with the same unknowns agree at every one of the fixed points."""
    try:
        names = sorted(a.free_symbols, key=str)
        if not names or set(names) != set(b.free_symbols):
            return False
        count = len(POINTS)
        points = [{name: POINTS[(at + i) % count] + i for i, name in enumerate(names)} for at in range(count)]
        return all(same(a.subs(values), b.subs(values)) for values in points)
    except (AttributeError, TypeError, ValueError, NotImplementedError):
        return False
