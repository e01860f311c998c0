// Maps as one long line of places, for convolutions of stride 1: with zeros between their rows and
// between their images, so that every place sees its neighbours at the same distances.

#pragma once

#include "norm.hpp"
#include "tiles.hpp"

namespace {

constexpr int64_t together = 1024; // places of images that are worked on at once, or one image's

// What is convolved with what, as convolution.py tells it.
struct Shape {
    int64_t images, height, width, channels, filters, kernel, padding;

    int64_t taps() const { return kernel * kernel; }
};

// The maps before a convolution, or behind it.
struct Side {
    int64_t height, width, channels;

    int64_t image() const { return height * width * channels; }
};

Side before(const Shape &of)
{
    return {of.height, of.width, of.channels};
}

Side behind(const Shape &of)
{
    const int64_t less = of.kernel - 1 - 2 * of.padding;
    return {of.height - less, of.width - less, of.filters};
}

// How images lie on the line: with as many zeros behind each row, and rows of them behind each
// image, as the padding has.
struct Grid {
    int64_t height, width; // of an image, its zeros included
    int64_t margin; // places of zeros before and behind all
    int64_t group; // images on it

    explicit Grid(const Shape &of)
        : height(of.height + of.padding), width(of.width + of.padding),
          margin(up((of.kernel + 1) * (width + 1) + deep, deep)),
          group(std::clamp(together / (height * width), int64_t(1), of.images))
    {
    }

    int64_t image() const { return height * width; } // places

    int64_t places() const { return up(group * image(), 2 * deep); }

    int64_t size() const { return places() + 2 * margin; }

    // Returns how many places further on a tap sees.
    int64_t seen(int64_t tap, const Shape &of) const
    {
        return (tap / of.kernel - of.padding) * width + tap % of.kernel - of.padding;
    }

    // Calls `work(image, number)` for groups of images: the first one and how many.
    template <typename Work>
    void each_group(int64_t images, Work work) const
    {
        for (int64_t image = 0; image < images; image += group)
            work(image, std::min(group, images - image));
    }
};

// Maps of a group of images on a line.
class Line {
public:
    const int64_t channels;

    Line(const Grid &grid, int64_t channels)
        : channels(channels), grid(grid), numbers(grid.size() * channels + deep)
    {
    }

    bfloat16 *places() { return numbers.begin() + grid.margin * channels; }

    // Returns up to 16 channels of a place, each in 32 bits.
    __m512i wide(int64_t place, int64_t channel, __mmask16 mask)
    {
        const bfloat16 *const from = places() + place * channels + channel;
        return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from));
    }

    // Returns pairs of up to 16 channels of a place and the next one.
    __m512i pairs(int64_t place, int64_t channel, __mmask16 mask)
    {
        return paired(wide(place, channel, mask), wide(place + 1, channel, mask));
    }

    void clear() { std::fill_n(numbers.begin(), grid.size() * channels, bfloat16(0)); }

    // Calls `work(row, element)` for each row of maps, with its place on the line.
    template <typename Work>
    void each_row(int64_t images, Side of, Work work)
    {
        for (int64_t image = 0; image < images; image++)
            for (int64_t y = 0; y < of.height; y++)
                work(places() + (image * grid.height + y) * grid.width * channels,
                     (image * of.height + y) * of.width * channels);
    }

private:
    const Grid &grid;
    Array<bfloat16> numbers;
};

// Writes maps to a line, the batch norm and the ReLU behind them done where there are any.
void lay(const bfloat16 *maps, float *statistics, Line &line, int64_t images, Side of)
{
    const int64_t size = of.width * of.channels;
    if (!statistics) {
        line.each_row(images, of, [=](bfloat16 *to, int64_t element) {
            std::copy_n(maps + element, size, to);
        });
        return;
    }
    const Statistics norm(statistics, of.channels);
    const Maps pixels{of.width, of.channels, true};
    auto scales = pixels.wide(norm.scale), shifts = pixels.wide(norm.shift);
    const float *const scale = scales.begin(), *const shift = shifts.begin();
    line.each_row(images, of, [&](bfloat16 *to, int64_t row) {
        pixels.each([=](auto lanes, int64_t element, int64_t place) {
            constexpr int count = decltype(lanes)::count;
            const Floats<count> value = read<count>(maps + row + element);
            const auto normed = value * read<count>(scale + place) + read<count>(shift + place);
            write<count>(to + element, normed < 0 ? Floats<count>{} : normed);
        });
    });
}

// Writes the gradient of maps to a line, from that of what the batch norm makes of them.
void lay_gradient(const bfloat16 *gradient, const bfloat16 *maps, Statistics norm,
                  const Along &along, Line &line, int64_t images, Side of)
{
    const Maps pixels{of.width, of.channels, true};
    auto scales = pixels.wide(norm.scale), shifts = pixels.wide(norm.shift);
    auto levels = pixels.wide(along.level.data()), slopes = pixels.wide(along.slope.data());
    const float *const scale = scales.begin(), *const shift = shifts.begin();
    const float *const level = levels.begin(), *const slope = slopes.begin();
    line.each_row(images, of, [&](bfloat16 *to, int64_t row) {
        pixels.each([=](auto lanes, int64_t element, int64_t place) {
            constexpr int count = decltype(lanes)::count;
            const Floats<count> value = read<count>(maps + row + element);
            const Floats<count> by = read<count>(scale + place);
            const auto normed = value * by + read<count>(shift + place);
            const Floats<count> passed = read<count>(gradient + row + element);
            const auto each = normed > 0 ? passed : Floats<count>{};
            const auto taken = value * read<count>(slope + place) + read<count>(level + place);
            write<count>(to + element, each * by - taken);
        });
    });
}

} // namespace
