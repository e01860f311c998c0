// A convolution of maps on a line, as a sum of matrix products, one for each row of the kernel: what
// that sees from a place are so many numbers one after the other, and the next place sees the same
// a few numbers further on. Nothing is copied for each tap. Places between maps are computed, too,
// and dropped. All that is added is float32; what is written is rounded once.
//
// A row of the kernel reads whole tiles, the rest of which meets weights of 0: NaN and infinity may be
// seen a few places further than others.

#pragma once

#include "line.hpp"

namespace {

// The filters as products take them: for 16 outputs, a row of the kernel, and 32 numbers that it
// sees, a tile of pairs of these.
class Filters {
public:
    const int64_t inputs, outputs, kernel, chunks;

    // Takes (filters, kernel, kernel, channels); `back` is for the gradient of the maps.
    Filters(const float *from, const Shape &of, bool back)
        : inputs(back ? of.filters : of.channels), outputs(back ? of.channels : of.filters),
          kernel(of.kernel), chunks(up(kernel * inputs, deep) / deep),
          tiles(up(outputs, rows) / rows * kernel * chunks * tile)
    {
        const int64_t taps = kernel * kernel;
        const auto lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        const auto apart = _mm512_set1_epi32(back ? 1 : int32_t(taps * of.channels));
        const auto outs = _mm512_mullo_epi32(lanes, apart);
        for (int64_t out = 0; out < outputs; out += rows)
            for (int64_t row = 0; row < kernel; row++) {
                bfloat16 *to = at(out / rows, row);
                // Returns 16 outputs' weights of one number that the row sees.
                const auto weights = [&](int64_t seen) {
                    const int64_t column = seen / inputs, input = seen % inputs;
                    if (column >= kernel)
                        return __m256i{};
                    const int64_t tap = row * kernel + column;
                    const float *const from_here =
                        back ? from + (input * taps + taps - 1 - tap) * outputs + out
                             : from + (out * taps + tap) * inputs + input;
                    return (__m256i)_mm512_cvtneps_pbh(_mm512_mask_i32gather_ps(
                        __m512{}, first(outputs - out), outs, from_here, sizeof(float)));
                };
                for (int64_t seen = 0; seen < chunks * deep; seen += 2, to += 2 * rows)
                    _mm512_storeu_si512(to, paired(weights(seen), weights(seen + 1)));
            }
    }

    bfloat16 *at(int64_t block, int64_t row)
    {
        return tiles.begin() + (block * kernel + row) * chunks * tile;
    }

private:
    Array<bfloat16> tiles;
};

// Computes 32 outputs of 32 places, or where there are not `two` blocks 16 of 64, from the line
// where the kernel's first tap of the first place is: (places, outputs) floats.
void multiply(const bfloat16 *line, int64_t width, Filters &filters, int64_t block, bool two,
              const float *bias, float *sums)
{
    const int64_t inputs = filters.inputs, step = inputs * sizeof(bfloat16);
    _tile_loadd(0, bias, 0); // one row for all
    _tile_loadd(1, two ? bias + rows : bias, 0);
    _tile_loadd(2, bias, 0);
    _tile_loadd(3, two ? bias + rows : bias, 0);
    for (int64_t row = 0; row < filters.kernel; row++) {
        const bfloat16 *seen = line + row * width * inputs;
        const bfloat16 *one = filters.at(block, row);
        const bfloat16 *other = two ? filters.at(block + 1, row) : one;
        for (int64_t chunk = 0; chunk < filters.chunks; chunk++) {
            _tile_loadd(4, seen, step);
            _tile_loadd(6, one, 64);
            _tile_dpbf16ps(0, 4, 6);
            if (two) {
                _tile_loadd(7, other, 64);
                _tile_dpbf16ps(1, 4, 7);
                _tile_loadd(5, seen + rows * inputs, step);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            } else {
                _tile_loadd(5, seen + rows * inputs, step);
                _tile_dpbf16ps(1, 5, 6);
                _tile_loadd(4, seen + 2 * rows * inputs, step);
                _tile_dpbf16ps(2, 4, 6);
                _tile_loadd(5, seen + 3 * rows * inputs, step);
                _tile_dpbf16ps(3, 5, 6);
            }
            seen += deep;
            one += tile;
            other += tile;
        }
    }
    const int64_t wide = (two ? 2 : 1) * rows, line_of_floats = wide * sizeof(float);
    _tile_stored(0, sums, line_of_floats);
    _tile_stored(1, two ? sums + rows : sums + rows * wide, line_of_floats);
    _tile_stored(2, two ? sums + rows * wide : sums + 2 * rows * wide, line_of_floats);
    _tile_stored(3, two ? sums + rows * wide + rows : sums + 3 * rows * wide, line_of_floats);
}

// For each output, the sums of what was written and of its squares.
struct Totals {
    std::vector<double> sums, squares;

    explicit Totals(int64_t outputs) : sums(up(outputs, 2 * rows)), squares(sums.size()) {}
};

// Of each other one of 32 outputs, for some places: float32 is enough for few.
struct Sums {
    __m512 sum{}, square{};

    void add(__m512i upper)
    {
        const auto value = (__m512)upper; // of pairs of bfloat16, each a half of a float
        sum = _mm512_add_ps(sum, value);
        square = _mm512_fmadd_ps(value, value, square);
    }

    void move_to(Totals &totals, int64_t output, int64_t outputs)
    {
        float ones[rows], others[rows];
        _mm512_storeu_ps(ones, sum);
        _mm512_storeu_ps(others, square);
        for (int64_t each = 0; each < outputs / 2; each++) {
            totals.sums[output + 2 * each] += double(ones[each]);
            totals.squares[output + 2 * each] += double(others[each]);
        }
        *this = {};
    }
};

// Writes what a line's maps are convolved to, seen from `lead` rows above and columns left of each
// place.
void convolve(Line &line, bfloat16 *to, int64_t images, Side of, int64_t lead, const Grid &grid,
              Filters &filters, const float *bias, Totals *totals)
{
    constexpr int64_t few = 256; // places that float32 adds up
    alignas(64) float sums[2 * rows * deep];
    const int64_t outputs = filters.outputs, blocks = up(outputs, rows) / rows;
    const bfloat16 *const corner = line.places() - (lead * grid.width + lead) * line.channels;
    for (int64_t block = 0; block < blocks; block += 2) {
        const bool two = block + 1 < blocks;
        const int64_t places = two ? deep : 2 * deep, wide = two ? 2 * rows : rows;
        const int64_t left = std::min(outputs - block * rows, wide);
        const auto mask = __mmask32((uint64_t(1) << left) - 1);
        Sums even, odd;
        const auto total = [&] {
            even.move_to(*totals, block * rows, wide);
            odd.move_to(*totals, block * rows + 1, wide);
        };
        const auto write_places = [&](const float *sum, bfloat16 *out, int64_t count) {
            for (int64_t each = 0; each < count; each++, sum += wide, out += outputs) {
                const __m512 lower = _mm512_load_ps(sum);
                const __m512 upper = two ? _mm512_load_ps(sum + rows) : lower;
                const auto all = (__m512i)_mm512_cvtne2ps_pbh(upper, lower);
                _mm512_mask_storeu_epi16(out, mask, all);
                if (totals) {
                    even.add(_mm512_slli_epi32(all, 16));
                    odd.add(_mm512_and_si512(all, _mm512_set1_epi32(int(0xffff0000))));
                }
            }
        };
        for (int64_t image = 0, y = 0, x = 0, place = 0; image < images; place += places) {
            if (totals && place % few == 0)
                total();
            multiply(corner + place * line.channels, grid.width, filters, block, two,
                     bias + block * rows, sums);
            for (int64_t done = 0; done < places && image < images;) {
                const int64_t run = std::min(places - done, grid.width - x);
                if (y < of.height && x < of.width)
                    write_places(sums + done * wide,
                                 to + ((image * of.height + y) * of.width + x) * outputs +
                                     block * rows,
                                 std::min(run, of.width - x));
                done += run;
                x += run;
                if (x == grid.width) {
                    x = 0;
                    y++;
                }
                if (y == grid.height) {
                    y = 0;
                    image++;
                }
            }
        }
        if (totals)
            total();
    }
}

} // namespace
