// What a batch says of each channel of maps in channels_last, and what this says of gradients.
//
// So that vectors are full, several rows of few channels are taken as one line.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "lanes.hpp"

namespace {

// An array of zeros that begins where a vector of the largest registers does.
template <typename Number>
class Array {
public:
    explicit Array(int64_t size) : lines((size * sizeof(Number) + 63) / 64) {}

    Number *begin() { return reinterpret_cast<Number *>(lines.data()); }

private:
    struct alignas(64) Line {
        char bytes[64];
    };

    std::vector<Line> lines;
};

template <int lanes>
struct Two {
    Floats<lanes> one, other;
};

struct Maps {
    int64_t rows, channels;
    bool relu;

    int64_t size() const { return rows * channels; }

    int64_t width() const { return channels * std::max<int64_t>(1, 256 / channels); } // of a line

    // Returns an array of the channels, repeated over the width.
    Array<float> wide(const float *array) const
    {
        Array<float> repeated(width());
        for (int64_t place = 0; place < width(); place += channels)
            std::copy_n(array, channels, repeated.begin() + place);
        return repeated;
    }

    // Calls `work(lanes, element, place)` for all elements, with their places in their lines.
    template <typename Work>
    void each(Work work) const
    {
        for (int64_t begin = 0; begin < size(); begin += width())
            each_vector<float>(std::min(width(), size() - begin), [&](auto lanes, int64_t place) {
                work(lanes, begin + place, place);
            });
    }

    // Writes for each channel the sums of the two numbers that `terms(lanes, element, place)` gives
    // of each element. Few are added to each other before their sum is, since rounding grows with
    // a sum.
    template <typename Terms>
    void sum(float *first, float *second, Terms terms) const
    {
        constexpr int64_t few = 16; // lines, which stay in the fastest cache
        constexpr int beside = 4; // of them, so that no sum waits for its own last one
        Array<float> firsts(width()), seconds(width());
        std::fill_n(first, channels, 0.0f);
        std::fill_n(second, channels, 0.0f);
        const auto add = [&](int64_t begin, int64_t lines, int64_t length) {
            each_vector<float>(length, [&](auto lanes, int64_t place) {
                constexpr int count = decltype(lanes)::count;
                Two<count> sums[beside]{};
                const auto take = [&](Two<count> &sum, int64_t line) {
                    const Two<count> each = terms(lanes, begin + line * width() + place, place);
                    sum.one += each.one;
                    sum.other += each.other;
                };
                int64_t line = 0;
                for (; line + beside <= lines; line += beside)
#pragma GCC unroll 4
                    for (int each = 0; each < beside; each++)
                        take(sums[each], line + each);
                for (; line < lines; line++)
                    take(sums[0], line);
                store(firsts.begin() + place,
                      (sums[0].one + sums[1].one) + (sums[2].one + sums[3].one));
                store(seconds.begin() + place,
                      (sums[0].other + sums[1].other) + (sums[2].other + sums[3].other));
            });
            for (int64_t row = 0; row < length; row += channels)
                for (int64_t channel = 0; channel < channels; channel++) {
                    first[channel] += firsts.begin()[row + channel];
                    second[channel] += seconds.begin()[row + channel];
                }
        };
        const int64_t whole = size() / width();
        for (int64_t line = 0; line < whole; line += few)
            add(line * width(), std::min(few, whole - line), width());
        if (size() % width())
            add(whole * width(), 1, size() % width());
    }
};

// What a batch says of each channel, arrays of floats behind each other.
struct Statistics {
    float *mean, *variance; // as that of all values is estimated by the batch's
    float *inverse; // of the deviation
    float *scale, *shift; // that normalize, weight and bias included
    // Of the gradient of relu(batch_norm(x)), what the ReLU lets through, and that times x without
    // its mean, added up by who computes it. The first number is NaN as long as nobody has told,
    // and infinity where that is not all.
    float *passed, *passed_off;

    Statistics(float *all, int64_t channels)
        : mean(all), variance(all + channels), inverse(all + 2 * channels),
          scale(all + 3 * channels), shift(all + 4 * channels), passed(all + 5 * channels),
          passed_off(all + 6 * channels)
    {
    }

    // Takes the mean of so many numbers of a channel, and that of their squared distances from it,
    // which rounding may have made less than 0.
    void conclude(int64_t channel, float average, float spread, int64_t numbers,
                  const float *weight, const float *bias, float epsilon)
    {
        spread = spread < 0 ? 0 : spread;
        mean[channel] = average;
        variance[channel] = spread * (float(numbers) / float(numbers - 1));
        inverse[channel] = 1 / std::sqrt(spread + epsilon);
        scale[channel] = weight[channel] * inverse[channel];
        shift[channel] = bias[channel] - average * scale[channel];
    }
};

// Numbers of a line of maps that are scaled and shifted, each place by its own two numbers.
struct Scaled {
    const float *scale, *shift;

    template <typename Numbers>
    Numbers at(int64_t place, Numbers x) const
    {
        constexpr int count = sizeof x / sizeof(float);
        return x * read<count>(scale + place) + read<count>(shift + place);
    }

    template <typename Numbers>
    Numbers relu(int64_t place, Numbers x) const
    {
        const Numbers scaled = at(place, x);
        return scaled < 0 ? Numbers{} : scaled;
    }

    // Returns what a gradient is before the ReLU, which let through what was more than `least`.
    template <typename Numbers>
    Numbers passed(int64_t place, Numbers x, Numbers gradient, float least = 0) const
    {
        return at(place, x) > least ? gradient : Numbers{};
    }
};

// What is taken from a scaled gradient, so that it changes neither mean nor deviation of the maps:
// level + slope * x.
struct Along {
    std::vector<float> level, slope;
};

// Writes the sums of the gradients of batch_norm(x), which `gradient(element, place, x)` gives of
// some of the maps, those of all others being 0, and of these times x without its mean.
template <typename Gradient>
void add_gradients(const bfloat16 *x, float *sum, float *off, Statistics of, Maps some,
                   Gradient gradient)
{
    auto means = some.wide(of.mean);
    const float *const mean = means.begin();
    some.sum(sum, off, [=](auto lanes, int64_t element, int64_t place) {
        constexpr int count = decltype(lanes)::count;
        const Floats<count> value = read<count>(x + element);
        const Floats<count> each = gradient(element, place, value);
        return Two<count>{each, each * (value - read<count>(mean + place))};
    });
}

// Makes of these sums the gradients of the bias and of the weight, and returns what they say of the
// gradient of x, of which each channel has so many numbers.
inline Along conclude_gradients(float *dbias, float *dweight, Statistics of, int64_t channels,
                                int64_t numbers)
{
    Along along{std::vector<float>(channels), std::vector<float>(channels)};
    for (int64_t channel = 0; channel < channels; channel++) {
        dweight[channel] *= of.inverse[channel];
        const float rise = dweight[channel] * of.inverse[channel] / float(numbers);
        const float rest = dbias[channel] / float(numbers) - rise * of.mean[channel];
        along.slope[channel] = rise * of.scale[channel];
        along.level[channel] = rest * of.scale[channel];
    }
    return along;
}

} // namespace
