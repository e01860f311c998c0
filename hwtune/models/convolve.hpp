// A convolution of maps on a line, as a sum of matrix products, one for each row of the kernel:
// what that sees from a place are so many numbers one after the other, and the next place sees the
// same a few numbers further on. Nothing is copied for each tap. Places between maps are computed,
// too, and dropped. All that is added is float32; what is written is rounded once.
//
// A row of the kernel reads whole tiles, the rest of which meets weights of 0: NaN and infinity may
// be seen a few places further than others.

#pragma once

#include "line.hpp"
#include "sums.hpp"

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
                        return __m512i{};
                    const int64_t tap = row * kernel + column;
                    const float *const from_here =
                        back ? from + (input * taps + taps - 1 - tap) * outputs + out
                             : from + (out * taps + tap) * inputs + input;
                    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(
                        _mm512_mask_i32gather_ps(__m512{}, first(outputs - out), outs, from_here,
                                                 sizeof(float))));
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

// How products are taken from the line: 32 outputs of 32 places, or 16 of 64.
template <bool two>
struct Window {
    static constexpr int64_t outputs = two ? 2 * rows : rows;
    static constexpr int64_t places = two ? deep : 2 * deep;
};

// Computes a window from the line where the kernel's first tap of the first place is, with filters
// from a block of 16 on: (places, outputs) floats.
template <bool two>
void multiply(const bfloat16 *line, int64_t width, Filters &filters, int64_t block,
              const float *bias, float *sums)
{
    constexpr int64_t wide = Window<two>::outputs, line_of_floats = wide * sizeof(float);
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
            if constexpr (two) {
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
    _tile_stored(0, sums, line_of_floats);
    _tile_stored(1, two ? sums + rows : sums + rows * wide, line_of_floats);
    _tile_stored(2, two ? sums + rows * wide : sums + 2 * rows * wide, line_of_floats);
    _tile_stored(3, two ? sums + rows * wide + rows : sums + 3 * rows * wide, line_of_floats);
}

// Writes what a line's maps are convolved to by filters from a block of 16 on, seen from `corner`.
template <bool two, typename Watch>
void convolve_block(const bfloat16 *corner, bfloat16 *to, int64_t images, Side of, const Grid &grid,
                    Filters &filters, int64_t block, const float *bias, Watch watch, Totals &totals)
{
    constexpr int64_t few = 256; // places that float32 adds up
    constexpr int64_t places = Window<two>::places, wide = Window<two>::outputs;
    // Of a window, and of the next one. The last place may be read with another one behind it.
    alignas(64) float both[2][(places + 1) * wide];
    const int64_t outputs = filters.outputs, first = block * rows;
    const auto mask = __mmask32((uint64_t(1) << std::min(outputs - first, wide)) - 1);
    Sums added;
    watch.turn_to(first, outputs, wide);
    const auto write_places = [&](const float *sum, bfloat16 *out, int64_t count) {
        if constexpr (two) {
            for (int64_t each = 0; each < count; each++, sum += wide, out += outputs) {
                const auto all = (__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(sum + rows),
                                                              _mm512_load_ps(sum));
                _mm512_mask_storeu_epi16(out, mask, all);
                if constexpr (Watch::adds)
                    added.add(watch.of(all, out - to, true));
            }
        } else {
            for (int64_t each = 0; each < count; each += 2, sum += 2 * wide, out += 2 * outputs) {
                const bool more = each + 1 < count;
                const auto all = (__m512i)_mm512_maskz_cvtne2ps_pbh(
                    more ? ~__mmask32(0) : 0xffff, _mm512_load_ps(sum + rows), _mm512_load_ps(sum));
                _mm256_mask_storeu_epi16(out, __mmask16(mask), _mm512_castsi512_si256(all));
                if (more)
                    _mm256_mask_storeu_epi16(out + outputs, __mmask16(mask),
                                             _mm512_extracti64x4_epi64(all, 1));
                if constexpr (Watch::adds)
                    added.add(watch.of(all, out - to, more));
            }
        }
    };
    const int64_t all = images * grid.image();
    const auto start = [&](int64_t place) {
        if (place < all)
            multiply<two>(corner + place * filters.inputs, grid.width, filters, block, bias + first,
                     both[place / places % 2]);
    };
    start(0);
    Walk walk(grid, of, images);
    for (int64_t place = 0; place < all; place += places) {
        if (Watch::adds && place % few == 0)
            added.move_to(totals, first, wide);
        start(place + places); // tiles are multiplied while vectors are written
        const float *const sums = both[place / places % 2];
        walk.go(places, [&](int64_t begin, int64_t element, int64_t count) {
            write_places(sums + begin * wide, to + element + first, count);
        });
    }
    if (Watch::adds)
        added.move_to(totals, first, wide);
}

// Writes what a line's maps are convolved to, seen from `lead` rows above and columns left of each
// place.
template <typename Watch>
void convolve(Line &line, bfloat16 *to, int64_t images, Side of, int64_t lead, const Grid &grid,
              Filters &filters, const float *bias, Watch watch, Totals &totals)
{
    const bfloat16 *const corner = line.places() - (lead * grid.width + lead) * line.channels;
    const int64_t blocks = up(filters.outputs, rows) / rows;
    for (int64_t block = 0; block < blocks; block += 2)
        if (block + 1 < blocks)
            convolve_block<true>(corner, to, images, of, grid, filters, block, bias, watch,
                                 totals);
        else
            convolve_block<false>(corner, to, images, of, grid, filters, block, bias, watch,
                                 totals);
}

} // namespace
