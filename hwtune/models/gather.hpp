// The gradient of filters, as a product of maps and gradients on their lines over all places.
//
// A tap sees the maps some places further on. Instead of the maps the gradients are shifted: these
// lie as pairs of places, beginning with even ones and with odd ones, so that every tile of them
// lies in whole lines of the cache. Rows of 64 bytes that cross these take six times as long.

#pragma once

#include "line.hpp"

namespace {

constexpr int64_t near = 512; // places whose products are added up at once
constexpr int64_t most = 6; // taps that share a tile of maps

// The channels of a line, up to 16s, one after the other: (channels, places).
class Turned {
public:
    const int64_t length; // of a channel; an odd number of cache lines, which spreads channels

    Turned(const Grid &grid, int64_t channels)
        : length(grid.places() | deep), places(grid.places()), numbers(length * up(channels, rows))
    {
    }

    void take(Line &line)
    {
        for (int64_t channel = 0; channel < line.channels; channel += rows) {
            const __mmask16 mask = first(line.channels - channel);
            for (int64_t place = 0; place < places; place += deep) {
                __m512i pairs[16];
                for (int64_t each = 0; each < 16; each++)
                    pairs[each] = line.pairs(place + 2 * each, channel, mask);
                turn(pairs);
                for (int64_t each = 0; each < 16; each++)
                    _mm512_store_si512(at(channel + each, place), pairs[each]);
            }
        }
    }

    // Takes a line of one channel as each tap sees it: (taps, places).
    void take_taps(Line &line, const Shape &of, const Grid &grid)
    {
        for (int64_t tap = 0; tap < of.taps(); tap++)
            std::copy_n(line.places() + grid.seen(tap, of), places, at(tap, 0));
    }

    bfloat16 *at(int64_t channel, int64_t place)
    {
        return numbers.begin() + channel * length + place;
    }

private:
    const int64_t places;
    Array<bfloat16> numbers;
};

// Pairs of places of a line and its margins, up to 16 channels together, from even places on and
// from odd ones: (2, channels / 16, places / 2, 16, 2).
class Pairs {
public:
    Pairs(const Grid &grid, int64_t channels)
        : places(grid.places()), margin(grid.margin), length(grid.size() * rows),
          odd(length * (up(channels, rows) / rows)), numbers(2 * odd)
    {
    }

    void take(Line &line)
    {
        for (int64_t channel = 0; channel < line.channels; channel += rows) {
            const __mmask16 mask = first(line.channels - channel);
            __m512i last{}; // what lies in the margins stays 0
            for (int64_t place = -2; place < places; place += 2) {
                const __m512i middle = line.wide(place + 1, channel, mask);
                const __m512i next = line.wide(place + 2, channel, mask);
                _mm512_store_si512(at(channel, place), paired(last, middle));
                _mm512_store_si512(at(channel, place + 1), paired(middle, next));
                last = next;
            }
        }
    }

    // Adds to each channel's sum all that it has.
    void add_to(float *sums, int64_t channels)
    {
        const auto ones = (__m512bh)_mm512_set1_epi32(0x3f803f80); // pairs of 1
        for (int64_t channel = 0; channel < channels; channel += rows) {
            const __mmask16 mask = first(channels - channel);
            __m512 sum = _mm512_maskz_loadu_ps(mask, sums + channel);
            for (int64_t place = 0; place < places; place += 2)
                sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_load_si512(at(channel, place)), ones);
            _mm512_mask_storeu_ps(sums + channel, mask, sum);
        }
    }

    bfloat16 *at(int64_t channel, int64_t place)
    {
        const int64_t pair = (margin + place) / 2, parity = place & 1;
        return numbers.begin() + parity * odd + channel / rows * length + pair * deep;
    }

private:
    const int64_t places, margin;
    const int64_t length; // of 16 channels
    const int64_t odd; // where the odd ones begin
    Array<bfloat16> numbers;
};

// Adds the products of 16 channels with 16 filters' gradients, as up to six taps see them, over
// `places`. The maps' channels lie `channel` bytes apart, the sums of two taps `tap` floats, and
// those of two channels `row` bytes.
void add_products(const bfloat16 *maps, int64_t channel, const bfloat16 *const *gradients,
                  int64_t taps, int64_t places, float *sums, int64_t tap, int64_t row)
{
// Tiles have no other names than these.
#define FOR_EACH_TAP(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define LOAD(t)                                                                                    \
    if (t < taps)                                                                                  \
        _tile_loadd(t, sums + t * tap, row);
#define MULTIPLY(t)                                                                                \
    if (t < taps) {                                                                                \
        _tile_loadd(7, gradients[t] + place * rows, 64);                                           \
        _tile_dpbf16ps(t, 6, 7);                                                                   \
    }
#define STORE(t)                                                                                   \
    if (t < taps)                                                                                  \
        _tile_stored(t, sums + t * tap, row);
    FOR_EACH_TAP(LOAD)
    for (int64_t place = 0; place < places; place += deep) {
        _tile_loadd(6, maps + place, channel);
        FOR_EACH_TAP(MULTIPLY)
    }
    FOR_EACH_TAP(STORE)
}

// What maps and the gradients of what is made of them say of the filters.
class Gathered {
public:
    explicit Gathered(const Shape &of)
        : of(of), channels(up(of.channels, rows)), filters(up(of.filters, rows)),
          sums(of.taps() * channels * filters)
    {
    }

    void add(Turned &maps, Pairs &gradients, const Grid &grid)
    {
        const int64_t places = up(grid.group * grid.image(), deep);
        for (int64_t place = 0; place < places; place += near)
            for (int64_t channel = 0; channel < channels; channel += rows)
                for (int64_t filter = 0; filter < filters; filter += rows)
                    for (int64_t tap = 0; tap < of.taps(); tap += most) {
                        const bfloat16 *shifted[most];
                        const int64_t taps = std::min(most, of.taps() - tap);
                        for (int64_t each = 0; each < taps; each++)
                            shifted[each] =
                                gradients.at(filter, place - grid.seen(tap + each, of));
                        add_products(maps.at(channel, place), maps.length * sizeof(bfloat16),
                                     shifted, taps, std::min(near, places - place),
                                     at(tap, channel, filter), channels * filters,
                                     filters * sizeof(float));
                    }
    }

    // Writes (filters, kernel, kernel, channels).
    void write(float *to)
    {
        settle();
        for (int64_t tap = 0; tap < of.taps(); tap++)
            for (int64_t channel = 0; channel < channels; channel += rows)
                for (int64_t filter = 0; filter < filters; filter += rows) {
                    __m512i block[16];
                    for (int64_t each = 0; each < 16; each++)
                        block[each] = _mm512_load_si512(at(tap, channel + each, filter));
                    turn(block);
                    const __mmask16 mask = first(of.channels - channel);
                    for (int64_t each = 0; each < std::min(rows, of.filters - filter); each++)
                        _mm512_mask_storeu_epi32(
                            to + ((filter + each) * of.taps() + tap) * of.channels + channel, mask,
                            block[each]);
                }
    }

private:
    float *at(int64_t tap, int64_t channel, int64_t filter)
    {
        return sums.begin() + (tap * channels + channel) * filters + filter;
    }

    const Shape of;
    const int64_t channels, filters;
    Array<float> sums;
};

} // namespace
