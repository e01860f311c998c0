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

    // Returns one of one tap, whose channels are how the taps see one channel.
    Shape flat() const { return {images, height, width, taps(), filters, 1, 0}; }
};

// The maps before a convolution, or behind it.
struct Side {
    int64_t height, width, channels;

    int64_t image() const { return height * width * channels; }

    // Returns where a row of an image begins.
    int64_t element(int64_t image, int64_t y) const
    {
        return (image * height + y) * width * channels;
    }

    // Returns what a pooling of 2x2 makes of it.
    Side half() const { return {height / 2, width / 2, channels}; }
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

    // Calls `work(row, image, y)` for each row of maps, with its place on the line.
    template <typename Work>
    void each_row(int64_t images, Side of, Work work)
    {
        for (int64_t image = 0; image < images; image++)
            for (int64_t y = 0; y < of.height; y++)
                work(places() + (image * grid.height + y) * grid.width * channels, image, y);
    }

private:
    const Grid &grid;
    Array<bfloat16> numbers;
};

// A walk along a line that meets the pixels of maps.
class Walk {
public:
    Walk(const Grid &grid, Side of, int64_t images) : grid(grid), of(of), images(images) {}

    // Goes on by some places, and calls `work(begin, element, count)` for each run of pixels, which
    // begins so many places from here on, at an element of the maps.
    template <typename Work>
    void go(int64_t places, Work work)
    {
        for (int64_t done = 0; done < places && image < images;) {
            const int64_t run = std::min(places - done, grid.width - x);
            if (y < of.height && x < of.width)
                work(done, of.element(image, y) + x * of.channels, std::min(run, of.width - x));
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

private:
    const Grid &grid;
    const Side of;
    const int64_t images;
    int64_t image = 0, y = 0, x = 0;
};

// Writes maps to a line, the batch norm and the ReLU behind them done where there are any.
void lay(const bfloat16 *maps, float *statistics, Line &line, int64_t images, Side of)
{
    const int64_t size = of.width * of.channels;
    if (!statistics) {
        line.each_row(images, of, [=](bfloat16 *to, int64_t image, int64_t y) {
            std::copy_n(maps + of.element(image, y), size, to);
        });
        return;
    }
    const Statistics batch(statistics, of.channels);
    const Maps pixels{of.width, of.channels, true};
    auto scales = pixels.wide(batch.scale), shifts = pixels.wide(batch.shift);
    const Scaled norm{scales.begin(), shifts.begin()};
    line.each_row(images, of, [&](bfloat16 *to, int64_t image, int64_t y) {
        const bfloat16 *const from = maps + of.element(image, y);
        pixels.each([=](auto lanes, int64_t element, int64_t place) {
            constexpr int count = decltype(lanes)::count;
            write<count>(to + element, norm.relu(place, read<count>(from + element)));
        });
    });
}

// Writes the gradient of maps to a line, from that of relu(batch_norm(maps)).
void lay_gradient(const bfloat16 *gradient, const bfloat16 *maps, Statistics batch,
                  const Along &along, Line &line, int64_t images, Side of)
{
    const Maps pixels{of.width, of.channels, true};
    auto scales = pixels.wide(batch.scale), shifts = pixels.wide(batch.shift);
    auto levels = pixels.wide(along.level.data()), slopes = pixels.wide(along.slope.data());
    const Scaled norm{scales.begin(), shifts.begin()}, taken{slopes.begin(), levels.begin()};
    line.each_row(images, of, [&](bfloat16 *to, int64_t image, int64_t y) {
        const int64_t row = of.element(image, y);
        pixels.each([=](auto lanes, int64_t element, int64_t place) {
            constexpr int count = decltype(lanes)::count;
            const Floats<count> value = read<count>(maps + row + element);
            const auto passed = norm.passed(place, value, read<count>(gradient + row + element));
            write<count>(to + element,
                         passed * read<count>(norm.scale + place) - taken.at(place, value));
        });
    });
}

// The gradient of relu(batch_norm(maps)), or of what a pooling of 2x2 makes of it.
struct Gradient {
    const bfloat16 *numbers;
    const uint8_t *which; // of four pixels was the greatest, 4 where none was more than 0; or null
    const bfloat16 *found; // what that pixel was before the batch norm

    // Returns that of a pooling from an element on.
    Gradient from(int64_t element) const
    {
        return {numbers + element, which + element, found + element};
    }
};

// Writes the gradient of maps to a line, from that of relu(max_pool2d(batch_norm(maps), 2)).
void lay_gradient(const Gradient &pooled, const bfloat16 *maps, Statistics batch,
                  const Along &along, Line &line, int64_t images, Side of)
{
    const Side half = of.half();
    const Scaled taken{along.slope.data(), along.level.data()};
    const int64_t channels = of.channels;
    line.each_row(images, of, [&](bfloat16 *to, int64_t image, int64_t y) {
        const bfloat16 *from = maps + of.element(image, y);
        const auto lay_pixels = [&](int64_t pixels, auto passed) {
            each_vector<float>(channels, [&](auto lanes, int64_t channel) {
                constexpr int count = decltype(lanes)::count;
                const auto gradients = passed(lanes, channel);
                for (int64_t pixel = 0; pixel < pixels; pixel++) {
                    const int64_t element = pixel * channels + channel;
                    const Floats<count> value = read<count>(from + element);
                    write<count>(to + element, gradients(pixel) - taken.at(channel, value));
                }
            });
            from += pixels * channels;
            to += pixels * channels;
        };
        const auto nothing = [](auto lanes, int64_t) {
            return [](int64_t) { return Floats<decltype(lanes)::count>{}; };
        };
        if (y / 2 == half.height) { // an odd last row, which belongs to no window
            for (int64_t x = 0; x < of.width; x++)
                lay_pixels(1, nothing);
            return;
        }
        int64_t window = half.element(image, y / 2);
        for (int64_t x = 0; x < half.width; x++, window += channels)
            lay_pixels(2, [&](auto lanes, int64_t channel) {
                constexpr int count = decltype(lanes)::count;
                const auto which = read_bytes<count>(pooled.which + window + channel);
                const auto scaled = read<count>(pooled.numbers + window + channel) *
                                    read<count>(batch.scale + channel);
                const int above = 2 * (y % 2);
                return [=](int64_t pixel) {
                    return which == above + int(pixel) ? scaled : Floats<count>{};
                };
            });
        if (of.width % 2)
            lay_pixels(1, nothing);
    });
}

} // namespace
