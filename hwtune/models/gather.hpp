// The gradient of filters, as a product of maps and gradients on their lines over all places.

#pragma once

#include "line.hpp"

namespace {

constexpr int64_t near = 384; // places whose products are added up at once

// The channels of a line, up to 16s, one after the other: (channels, places).
class Turned {
public:
    const int64_t length; // of a channel; an odd number of cache lines, which spreads channels

    Turned(const Grid &grid, int64_t channels)
        : length(grid.size() | deep), margin(grid.margin), size(grid.size()),
          numbers(length * up(channels, rows))
    {
    }

    void take(Line &line)
    {
        const int64_t channels = line.channels;
        for (int64_t channel = 0; channel < channels; channel += rows) {
            const __mmask16 mask = first(channels - channel);
            for (int64_t place = -margin; place < size - margin; place += deep) {
                __m512i pairs[16];
                for (int64_t each = 0; each < 16; each++)
                    pairs[each] = line.pairs(place + 2 * each, channel, mask);
                turn(pairs);
                for (int64_t each = 0; each < 16; each++)
                    _mm512_storeu_si512(at(channel + each, place), pairs[each]);
            }
        }
    }

    bfloat16 *at(int64_t channel, int64_t place)
    {
        return numbers.begin() + channel * length + margin + place;
    }

private:
    const int64_t margin, size;
    Array<bfloat16> numbers;
};

// Pairs of places of a line, up to 16 channels together: (channels / 16, places / 2, 16, 2).
class Pairs {
public:
    const int64_t length; // of 16 channels

    Pairs(const Grid &grid, int64_t channels)
        : length(grid.places() * rows), places(grid.places()),
          numbers(grid.places() * up(channels, rows))
    {
    }

    // Takes a line, and adds the sums of its channels.
    void take(Line &line, float *sums)
    {
        const auto ones = (__m512bh)_mm512_set1_epi32(0x3f803f80); // pairs of 1
        for (int64_t channel = 0; channel < line.channels; channel += rows) {
            const __mmask16 mask = first(line.channels - channel);
            __m512 sum{};
            for (int64_t place = 0; place < places; place += 2) {
                const __m512i pairs = line.pairs(place, channel, mask);
                sum = _mm512_dpbf16_ps(sum, (__m512bh)pairs, ones);
                _mm512_storeu_si512(at(channel, place), pairs);
            }
            _mm512_storeu_ps(sums + channel, _mm512_add_ps(sum, _mm512_loadu_ps(sums + channel)));
        }
    }

    bfloat16 *at(int64_t channel, int64_t place)
    {
        return numbers.begin() + channel / rows * length + place * rows;
    }

private:
    const int64_t places;
    Array<bfloat16> numbers;
};

// How far what is multiplied lies apart, and over how many places products are added up.
struct Steps {
    int64_t places;
    int64_t channel; // bytes from a channel of the maps to the next
    int64_t block; // numbers from 16 filters' gradients to the next ones'
    int64_t row; // bytes from a channel of the sums to the next
    int64_t tap; // floats from a tap of the sums to the next
};

// Adds the products of the maps as one tap or two see them with 32 filters' gradients.
void add_two(const bfloat16 *const *maps, int64_t taps, const bfloat16 *gradients, float *sums,
             Steps by)
{
    const bool both = taps > 1;
    float *const second = sums + (both ? by.tap : 0);
    _tile_loadd(0, sums, by.row);
    _tile_loadd(1, sums + rows, by.row);
    _tile_loadd(2, second, by.row);
    _tile_loadd(3, second + rows, by.row);
    for (int64_t place = 0; place < by.places; place += deep) {
        _tile_loadd(4, maps[0] + place, by.channel);
        _tile_loadd(6, gradients, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, gradients + by.block, 64);
        _tile_dpbf16ps(1, 4, 7);
        if (both) {
            _tile_loadd(5, maps[1] + place, by.channel);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        gradients += tile;
    }
    if (both) {
        _tile_stored(2, second, by.row);
        _tile_stored(3, second + rows, by.row);
    }
    _tile_stored(0, sums, by.row);
    _tile_stored(1, sums + rows, by.row);
}

// Adds the products of the maps as up to five taps see them with 16 filters' gradients.
void add_one(const bfloat16 *const *maps, int64_t taps, const bfloat16 *gradients, float *sums,
             Steps by)
{
// Tiles have no other names than these.
#define FOR_EACH_TAP(DO) DO(0) DO(1) DO(2) DO(3) DO(4)
#define LOAD(t)                                                                                    \
    if (t < taps)                                                                                  \
        _tile_loadd(t, sums + t * by.tap, by.row);
#define MULTIPLY(t)                                                                                \
    if (t < taps) {                                                                                \
        _tile_loadd(6, maps[t] + place, by.channel);                                               \
        _tile_dpbf16ps(t, 6, 7);                                                                   \
    }
#define STORE(t)                                                                                   \
    if (t < taps)                                                                                  \
        _tile_stored(t, sums + t * by.tap, by.row);
    FOR_EACH_TAP(LOAD)
    for (int64_t place = 0; place < by.places; place += deep) {
        _tile_loadd(7, gradients, 64);
        FOR_EACH_TAP(MULTIPLY)
        gradients += tile;
    }
    FOR_EACH_TAP(STORE)
}

// Adds to (kernel, kernel, channels, filters), both up to 16s, what the maps and the gradients of
// what is made of them say of the filters.
void gather(Turned &maps, Pairs &gradients, float *sums, const Shape &of, const Grid &grid)
{
    const int64_t channels = up(of.channels, rows), filters = up(of.filters, rows);
    const int64_t taps = of.kernel * of.kernel, places = up(grid.group * grid.image(), deep);
    // Calls `add` for some taps at a time, of 16 channels and 16 or 32 filters.
    const auto each_tap = [&](auto add, int64_t most, int64_t channel, int64_t filter, int64_t place,
                              Steps by) {
        for (int64_t tap = 0; tap < taps; tap += most) {
            const bfloat16 *seen[5];
            const int64_t some = std::min(most, taps - tap);
            for (int64_t each = 0; each < some; each++) {
                const int64_t row = (tap + each) / of.kernel - of.padding;
                const int64_t column = (tap + each) % of.kernel - of.padding;
                seen[each] = maps.at(channel, place + row * grid.width + column);
            }
            add(seen, some, gradients.at(filter, place),
                sums + tap * by.tap + channel * filters + filter, by);
        }
    };
    for (int64_t place = 0; place < places; place += near) {
        const Steps by{std::min(near, places - place), int64_t(maps.length * sizeof(bfloat16)),
                       gradients.length, int64_t(filters * sizeof(float)), channels * filters};
        for (int64_t channel = 0; channel < channels; channel += rows)
            for (int64_t filter = 0; filter < filters; filter += 2 * rows) {
                if (filter + rows < filters)
                    each_tap(add_two, 2, channel, filter, place, by);
                else
                    each_tap(add_one, 5, channel, filter, place, by);
            }
    }
}

} // namespace
