// What is added up of the outputs of a convolution while they are written: two sums for each.

#pragma once

#include "norm.hpp"
#include "tiles.hpp"

namespace {

// Two sums for each output.
struct Totals {
    std::vector<double> first, second;

    explicit Totals(int64_t outputs) : first(up(outputs, 2 * rows)), second(first.size()) {}
};

// Of 32 numbers as they are written, which are so many outputs or 16 of two places: what is added
// to the first sum, of even ones and odd ones, and what to the second.
struct Terms {
    __m512 even, odd, even_second, odd_second;
};

// Terms added up: float32 is enough for few.
struct Sums {
    Terms all{};

    void add(Terms terms)
    {
        all.even = _mm512_add_ps(all.even, terms.even);
        all.odd = _mm512_add_ps(all.odd, terms.odd);
        all.even_second = _mm512_add_ps(all.even_second, terms.even_second);
        all.odd_second = _mm512_add_ps(all.odd_second, terms.odd_second);
    }

    void move_to(Totals &totals, int64_t output, int64_t outputs)
    {
        const auto move = [=](__m512 from, std::vector<double> &to, int64_t first) {
            float each[rows];
            _mm512_storeu_ps(each, from);
            for (int64_t lane = 0; lane < rows; lane++)
                to[first + 2 * lane % outputs] += double(each[lane]);
        };
        move(all.even, totals.first, output);
        move(all.odd, totals.first, output + 1);
        move(all.even_second, totals.second, output);
        move(all.odd_second, totals.second, output + 1);
        *this = {};
    }
};

// Returns the even ones of 32 numbers of bfloat16 as floats, whose upper halves they are.
__m512 evens(__m512i numbers)
{
    return (__m512)_mm512_slli_epi32(numbers, 16);
}

__m512 odds(__m512i numbers)
{
    return (__m512)_mm512_and_si512(numbers, _mm512_set1_epi32(int(0xffff0000)));
}

// Who adds up nothing of what is written.
struct Nothing {
    static constexpr bool adds = false;

    void turn_to(int64_t, int64_t, int64_t) {}
};

// Who adds up what is written, and its squares.
struct Squares {
    static constexpr bool adds = true;

    void turn_to(int64_t, int64_t, int64_t) {}

    Terms of(__m512i numbers, int64_t, bool) const
    {
        const __m512 even = evens(numbers), odd = odds(numbers);
        return {even, odd, _mm512_mul_ps(even, even), _mm512_mul_ps(odd, odd)};
    }
};

// Who adds up of a gradient of relu(batch_norm(x)) what the ReLU lets through, and that times x
// without its mean.
class Passed {
public:
    static constexpr bool adds = true;

    Passed(const bfloat16 *x, Statistics batch) : x(x), batch(batch) {}

    // Is told of which outputs, from the first one on, 32 numbers at a time are.
    void turn_to(int64_t first, int64_t outputs, int64_t wide)
    {
        const auto every_other = [=](const float *from, int64_t begin) {
            float each[rows]{};
            for (int64_t lane = 0; lane < rows; lane++) {
                const int64_t output = first + begin + 2 * lane % wide;
                each[lane] = output < outputs ? from[output] : 0;
            }
            return _mm512_loadu_ps(each);
        };
        for (int64_t parity = 0; parity < 2; parity++) {
            scale[parity] = every_other(batch.scale, parity);
            shift[parity] = every_other(batch.shift, parity);
            mean[parity] = every_other(batch.mean, parity);
        }
        next = wide == rows ? outputs : rows;
        mask = ::first(outputs - first);
        next_mask = wide == rows ? mask : ::first(outputs - first - rows);
    }

    // Takes 32 gradients, whether the later half of them is any, and where the first one belongs.
    Terms of(__m512i gradients, int64_t element, bool later) const
    {
        const auto load = [=](int64_t from, __mmask16 which) {
            return _mm256_maskz_loadu_epi16(which, x + from);
        };
        const auto numbers = _mm512_inserti64x4(_mm512_castsi256_si512(load(element, mask)),
                                                load(element + next, later ? next_mask : 0), 1);
        Terms terms;
        terms.even = let_through(evens(gradients), evens(numbers), 0, terms.even_second);
        terms.odd = let_through(odds(gradients), odds(numbers), 1, terms.odd_second);
        return terms;
    }

private:
    __m512 let_through(__m512 gradient, __m512 value, int64_t parity, __m512 &product) const
    {
        const __m512 normed = _mm512_fmadd_ps(value, scale[parity], shift[parity]);
        const auto positive = _mm512_cmp_ps_mask(normed, __m512{}, _CMP_GT_OQ);
        const __m512 passed = _mm512_maskz_mov_ps(positive, gradient);
        product = _mm512_mul_ps(passed, _mm512_sub_ps(value, mean[parity]));
        return passed;
    }

    const bfloat16 *x;
    Statistics batch;
    __m512 scale[2], shift[2], mean[2]; // of even outputs and of odd ones
    int64_t next = 0; // where the later half lies
    __mmask16 mask = 0, next_mask = 0;
};

} // namespace
