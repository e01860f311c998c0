// relu(max_pool2d(convolution, 2)) for a convolution of one channel, and the gradient of its filters:
// from images of float32 to maps in channels_last (images, height, width, channels).
//
// The filters are an array (kernel * kernel + 1, channels) whose last row is the bias. All that is
// added is float32; what is written is rounded once. Of four pixels the largest before it is
// rounded gets the gradient.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "lanes.hpp"

namespace {

template <int lanes>
using Bytes = typename Lanes<float, lanes>::Bytes;

// What is convolved, to maps of which size, and how, as stem.py tells it.
struct Stem {
    int64_t images, height, width, rows, columns, channels, kernel, stride, padding;

    int64_t line() const { return width + 2 * padding; }

    int64_t step() const { return 2 * stride; } // of a pixel of the maps
};

// The filters of some channels, or the sums of their gradients.
template <int kernel, int lanes>
struct Filters {
    Floats<lanes> taps[kernel][kernel]{}, bias{};

    void take(const float *filters, int64_t channels)
    {
        each([&](Floats<lanes> &tap, int row) { tap = read<lanes>(filters + row * channels); });
    }

    void add_to(float *filters, int64_t channels)
    {
        each([&](Floats<lanes> &tap, int row) {
            float *const to = filters + row * channels;
            store(to, read<lanes>(to) + tap);
        });
    }

    // Returns what the maps are where an image is seen from this corner.
    Floats<lanes> at(const float *corner, int64_t line) const
    {
        Floats<lanes> sum = bias;
#pragma GCC unroll 8
        for (int row = 0; row < kernel; row++)
#pragma GCC unroll 8
            for (int column = 0; column < kernel; column++)
                sum += taps[row][column] * corner[row * line + column];
        return sum;
    }

    // Adds what a gradient of the maps there says of the filters.
    void add(Floats<lanes> gradient, const float *corner, int64_t line)
    {
        bias += gradient;
#pragma GCC unroll 8
        for (int row = 0; row < kernel; row++)
#pragma GCC unroll 8
            for (int column = 0; column < kernel; column++)
                taps[row][column] += gradient * corner[row * line + column];
    }

private:
    template <typename Work>
    void each(Work work)
    {
#pragma GCC unroll 8
        for (int row = 0; row < kernel; row++)
#pragma GCC unroll 8
            for (int column = 0; column < kernel; column++)
                work(taps[row][column], row * kernel + column);
        work(bias, kernel * kernel);
    }
};

// Calls `work(image, place)` for each image, which has zeros around it, with its place in the maps.
template <typename Work>
void each_image(const Stem &stem, const float *x, Work work)
{
    std::vector<float> image((stem.height + 2 * stem.padding) * stem.line());
    float *const inside = image.data() + stem.padding * (stem.line() + 1);
    for (int64_t each = 0; each < stem.images; each++) {
        for (int64_t row = 0; row < stem.height; row++, x += stem.width)
            std::copy_n(x, stem.width, inside + row * stem.line());
        work(image.data(), each * stem.rows * stem.columns * stem.channels);
    }
}

// Calls `work(lanes, channel, place, corner)` for the channels of each row of an image's maps, with
// their first place there, and with the corner of what it sees of the image.
template <typename Work>
void each_row(const Stem &stem, const float *image, int64_t place, Work work)
{
    for (int64_t row = 0; row < stem.rows; row++) {
        each_vector<float>(stem.channels, [&](auto lanes, int64_t channel) {
            work(lanes, channel, place + channel, image + row * stem.step() * stem.line());
        });
        place += stem.columns * stem.channels;
    }
}

// Writes y, and which of four pixels (0 to 3) it was; 4 where y is 0.
template <int kernel, typename Number>
void forward(Number *y, const float *x, const float *filters, uint8_t *which, const Stem &stem)
{
    const int64_t line = stem.line(), channels = stem.channels;
    const int64_t four[] = {0, stem.stride, stem.stride * line, stem.stride * (line + 1)};
    const auto work = [&](auto lanes, int64_t channel, int64_t place, const float *corner) {
        constexpr int count = decltype(lanes)::count;
        Filters<kernel, count> own;
        own.take(filters + channel, channels);
        for (int64_t column = 0; column < stem.columns; column++) {
            Floats<count> most{};
            Integers<count> found = Integers<count>{} + 4;
#pragma GCC unroll 4
            for (int pixel = 0; pixel < 4; pixel++) {
                const Floats<count> value = own.at(corner + four[pixel], line);
                const auto more = (value > most) | (value != value); // NaN is more than all
                most = more ? value : most;
                found = more ? Integers<count>{} + pixel : found;
            }
            write<count>(y + place, most);
            write_bytes<count>(which + place, found);
            place += channels;
            corner += stem.step();
        }
    };
    each_image(stem, x, [&](const float *image, int64_t place) {
        each_row(stem, image, place, work);
    });
}

// Adds the gradient of the filters: that of a row to that of its image, and this to that of all,
// since rounding grows with a sum.
template <int kernel, typename Number>
void backward(const Number *dy, const float *x, const uint8_t *which, float *filters,
              const Stem &stem)
{
    const int64_t line = stem.line(), channels = stem.channels;
    const int64_t four[] = {0, stem.stride, stem.stride * line, stem.stride * (line + 1)};
    std::vector<float> of_image((kernel * kernel + 1) * channels);
    const auto work = [&](auto lanes, int64_t channel, int64_t place, const float *corner) {
        constexpr int count = decltype(lanes)::count;
        Filters<kernel, count> own;
        for (int64_t column = 0; column < stem.columns; column++) {
            const Floats<count> gradient = read<count>(dy + place);
            const auto found =
                __builtin_convertvector(load<Bytes<count>>(which + place), Integers<count>);
#pragma GCC unroll 4
            for (int pixel = 0; pixel < 4; pixel++)
                own.add(found == pixel ? gradient : Floats<count>{}, corner + four[pixel], line);
            place += channels;
            corner += stem.step();
        }
        own.add_to(of_image.data() + channel, channels);
    };
    each_image(stem, x, [&](const float *image, int64_t place) {
        std::fill(of_image.begin(), of_image.end(), 0.0f);
        each_row(stem, image, place, work);
        for (size_t each = 0; each < of_image.size(); each++)
            filters[each] += of_image[each];
    });
}

template <typename Number>
void forward(Number *y, const float *x, const float *filters, uint8_t *which, const Stem &stem)
{
    stem.kernel == 3 ? forward<3>(y, x, filters, which, stem)
                     : forward<5>(y, x, filters, which, stem);
}

template <typename Number>
void backward(const Number *dy, const float *x, const uint8_t *which, float *filters,
              const Stem &stem)
{
    stem.kernel == 3 ? backward<3>(dy, x, which, filters, stem)
                     : backward<5>(dy, x, which, filters, stem);
}

} // namespace

extern "C" {

void stem_bfloat16(bfloat16 *y, const float *x, const float *filters, uint8_t *which,
                   const Stem *stem)
{
    forward(y, x, filters, which, *stem);
}

void stem_float32(float *y, const float *x, const float *filters, uint8_t *which, const Stem *stem)
{
    forward(y, x, filters, which, *stem);
}

void stem_back_bfloat16(const bfloat16 *dy, const float *x, const uint8_t *which, float *filters,
                        const Stem *stem)
{
    backward(dy, x, which, filters, *stem);
}

void stem_back_float32(const float *dy, const float *x, const uint8_t *which, float *filters,
                       const Stem *stem)
{
    backward(dy, x, which, filters, *stem);
}
}
