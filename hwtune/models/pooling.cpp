// relu(max_pool2d(x, 2)) and its gradient, for maps in channels_last:
// (images, height, width, channels).
//
// bfloat16 and float32 are compared as integers of 16 and 32 bits: from 0 on these are in the same
// order, and what is below 0 is 0 in the end.

#include "norm.hpp"

namespace {

constexpr int ahead = 2048; // bytes that are asked for early: the processor foresees less

// Calls `work(large, small)` for each window of four pixels, with its place in the large maps and
// in the small ones. An odd last row or column belongs to none.
template <typename Work>
void each_window(int64_t images, int64_t height, int64_t width, int64_t channels, Work work)
{
    const int64_t rows = height / 2, columns = width / 2;
    for (int64_t row = 0; row < images * rows; row++) {
        int64_t large = (row / rows * height + row % rows * 2) * width * channels;
        int64_t small = row * columns * channels;
        for (int64_t column = 0; column < columns; column++) {
            work(large, small);
            large += 2 * channels;
            small += channels;
        }
    }
}

// Writes y, and which of the four (0 to 3) it was; 4 where y is 0.
template <typename Number>
void pool(const Number *x, Number *y, uint8_t *which, int64_t images, int64_t height, int64_t width,
          int64_t channels)
{
    constexpr Number sign = Number(Number(1) << (8 * sizeof(Number) - 1));
    constexpr Number infinity = sizeof(Number) == 2 ? Number(0x7f80) : Number(0x7f800000);
    const int64_t four[] = {0, channels, width * channels, (width + 1) * channels};
    each_window(images, height, width, channels, [&](int64_t large, int64_t small) {
        each_vector<Number>(channels, [&](auto lanes, int64_t channel) {
            using Vector = typename decltype(lanes)::Vector;
            Vector most{}, found = most + Number(4);
            for (int place = 0; place < 4; place++) {
                const Number *from = x + large + four[place] + channel;
                __builtin_prefetch((const char *)from + ahead);
                Vector value = load<Vector>(from);
                Vector magnitude = value & Number(~sign);
                value = magnitude > infinity ? magnitude : value; // NaN is more than all
                auto more = value > most;
                most = more ? value : most;
                found = more ? Vector{} + Number(place) : found;
            }
            store(y + small + channel, most);
            store(which + small + channel,
                  __builtin_convertvector(found, typename decltype(lanes)::Bytes));
        });
    });
}

// Writes y = relu(max_pool2d(batch_norm(x), 2)) by statistics that are known, which it was, and
// what that was before the batch norm; with 4 this is 0, as sums of gradients need it.
void pool_normed(const bfloat16 *x, float *statistics, bfloat16 *y, uint8_t *which,
                 bfloat16 *found, int64_t images, int64_t height, int64_t width, int64_t channels)
{
    const Statistics batch(statistics, channels);
    const Scaled norm{batch.scale, batch.shift};
    const int64_t four[] = {0, channels, width * channels, (width + 1) * channels};
    each_window(images, height, width, channels, [&](int64_t large, int64_t small) {
        each_vector<float>(channels, [&](auto lanes, int64_t channel) {
            constexpr int count = decltype(lanes)::count;
            Floats<count> most{}, before{};
            Integers<count> place_of_most = Integers<count>{} + 4;
#pragma GCC unroll 4
            for (int place = 0; place < 4; place++) {
                const bfloat16 *const from = x + large + four[place] + channel;
                __builtin_prefetch((const char *)from + ahead);
                const Floats<count> one = read<count>(from), value = norm.at(channel, one);
                const auto more = (value > most) | (value != value); // NaN is more than all
                most = more ? value : most;
                before = more ? one : before;
                place_of_most = more ? Integers<count>{} + place : place_of_most;
            }
            write<count>(y + small + channel, most);
            write<count>(found + small + channel, before);
            write_bytes<count>(which + small + channel, place_of_most);
        });
    });
}

// Writes the gradient of x: that of y where y came from, 0 elsewhere.
template <typename Number>
void spread(const Number *dy, const uint8_t *which, Number *dx, int64_t images, int64_t height,
            int64_t width, int64_t channels)
{
    const int64_t four[] = {0, channels, width * channels, (width + 1) * channels};
    each_window(images, height, width, channels, [&](int64_t large, int64_t small) {
        each_vector<Number>(channels, [&](auto lanes, int64_t channel) {
            using Vector = typename decltype(lanes)::Vector;
            using Bytes = typename decltype(lanes)::Bytes;
            Vector gradient = load<Vector>(dy + small + channel);
            Vector found = __builtin_convertvector(load<Bytes>(which + small + channel), Vector);
            for (int place = 0; place < 4; place++) {
                Number *to = dx + large + four[place] + channel;
                __builtin_prefetch((char *)to + ahead, 1);
                store(to, found == Number(place) ? gradient : Vector{});
            }
        });
    });
}

} // namespace

extern "C" {

void pool_bfloat16(const int16_t *x, int16_t *y, uint8_t *which, int64_t images, int64_t height,
                   int64_t width, int64_t channels)
{
    pool(x, y, which, images, height, width, channels);
}

void pool_normed_bfloat16(const bfloat16 *x, float *statistics, bfloat16 *y, uint8_t *which,
                          bfloat16 *found, int64_t images, int64_t height, int64_t width,
                          int64_t channels)
{
    pool_normed(x, statistics, y, which, found, images, height, width, channels);
}

void pool_float32(const int32_t *x, int32_t *y, uint8_t *which, int64_t images, int64_t height,
                  int64_t width, int64_t channels)
{
    pool(x, y, which, images, height, width, channels);
}

void spread_bfloat16(const int16_t *dy, const uint8_t *which, int16_t *dx, int64_t images,
                     int64_t height, int64_t width, int64_t channels)
{
    spread(dy, which, dx, images, height, width, channels);
}

void spread_float32(const int32_t *dy, const uint8_t *which, int32_t *dx, int64_t images,
                    int64_t height, int64_t width, int64_t channels)
{
    spread(dy, which, dx, images, height, width, channels);
}
}
