// batch_norm(x), relu(batch_norm(x)) or relu(batch_norm(x) + plus), and its gradient, for maps of
// bfloat16 in channels_last: rows (images, height, width) of channels.
//
// The loops are written for a compiler that makes vectors of them. So that they are long, several
// rows of few channels are taken as one.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "lanes.hpp"

namespace {

float read(bfloat16 from)
{
    return widened<float>(uint32_t(from));
}

void write(bfloat16 &to, float value)
{
    to = bfloat16(rounded<uint32_t>(value));
}

// An array of floats that begins where a vector of the largest registers does.
class Floats {
public:
    explicit Floats(int64_t size) : lines((size + 15) / 16) {}

    float *begin() { return reinterpret_cast<float *>(lines.data()); }

private:
    struct alignas(64) Line {
        float floats[16];
    };

    std::vector<Line> lines;
};

struct Two {
    float one, other;
};

struct Maps {
    int64_t rows, channels;
    bool relu;

    int64_t size() const { return rows * channels; }

    int64_t width() const { return channels * std::max<int64_t>(1, 256 / channels); }

    // Returns an array of the channels, repeated over the width.
    Floats wide(const float *array) const
    {
        Floats repeated(width());
        for (int64_t place = 0; place < width(); place++)
            repeated.begin()[place] = array[place % channels];
        return repeated;
    }

    // Calls `work(begin, length)` for all elements, so many of them at once.
    template <typename Work>
    void each(Work work) const
    {
        for (int64_t begin = 0; begin < size(); begin += width())
            work(begin, std::min(width(), size() - begin));
    }

    // Writes for each channel the sums of the two numbers that `terms(begin, place)` gives of each
    // element. Few are added to each other before their sum is, since rounding grows with a sum.
    template <typename Terms>
    void sum(float *first, float *second, Terms terms) const
    {
        Floats firsts(width()), seconds(width());
        float *const one = firsts.begin(), *const other = seconds.begin();
        std::fill_n(first, channels, 0.0f);
        std::fill_n(second, channels, 0.0f);
        each([&](int64_t begin, int64_t length) {
#pragma GCC ivdep
            for (int64_t place = 0; place < length; place++) {
                const Two each = terms(begin, place);
                one[place] += each.one;
                other[place] += each.other;
            }
            const int64_t after = begin + length;
            if (after / width() % 64 && after < size())
                return;
            for (int64_t place = 0; place < width(); place++) {
                first[place % channels] += one[place];
                second[place % channels] += other[place];
                one[place] = other[place] = 0;
            }
        });
    }
};

// What a batch says of each channel, arrays of floats behind each other.
struct Statistics {
    float *mean, *variance;
    float *inverse; // of the deviation
    float *scale, *shift; // that normalize, weight and bias included

    Statistics(float *all, int64_t channels)
        : mean(all), variance(all + channels), inverse(all + 2 * channels),
          scale(all + 3 * channels), shift(all + 4 * channels)
    {
    }
};

// Writes what the batch says, and y; `plus` may be null.
void normalize(const bfloat16 *x, const bfloat16 *plus, bfloat16 *y, const float *weight,
               const float *bias, float *all, Maps maps, float epsilon)
{
    const Statistics of(all, maps.channels);
    // The mean of some rows is near that of all: squares of what is left lose little to rounding.
    const int64_t some = std::min<int64_t>(maps.rows, 256);
    std::vector<float> guess(maps.channels);
    for (int64_t place = 0; place < some * maps.channels; place++)
        guess[place % maps.channels] += read(x[place]) / float(some);
    auto guesses = maps.wide(guess.data());
    const float *const near = guesses.begin();
    maps.sum(of.mean, of.variance, [=](int64_t begin, int64_t place) {
        const float off = read(x[begin + place]) - near[place];
        return Two{off, off * off};
    });
    for (int64_t channel = 0; channel < maps.channels; channel++) {
        const float off = of.mean[channel] / float(maps.rows);
        const float variance = of.variance[channel] / float(maps.rows) - off * off;
        of.mean[channel] = guess[channel] + off;
        of.variance[channel] = variance < 0 ? 0 : variance;
        of.inverse[channel] = 1 / std::sqrt(of.variance[channel] + epsilon);
        of.scale[channel] = weight[channel] * of.inverse[channel];
        of.shift[channel] = bias[channel] - of.mean[channel] * of.scale[channel];
    }
    auto scales = maps.wide(of.scale), shifts = maps.wide(of.shift);
    const float *const scale = scales.begin(), *const shift = shifts.begin();
    const float least = maps.relu ? 0 : -std::numeric_limits<float>::infinity();
    auto finish = [=](auto added) {
        maps.each([=](int64_t begin, int64_t length) {
#pragma GCC ivdep
            for (int64_t place = 0; place < length; place++) {
                const float normed = read(x[begin + place]) * scale[place] + shift[place];
                const float value = normed + added(begin + place);
                write(y[begin + place], value < least ? least : value);
            }
        });
    };
    if (plus)
        finish([=](int64_t element) { return read(plus[element]); });
    else
        finish([](int64_t) { return -0.0f; }); // which changes nothing
}

// Writes the gradients of x, of the weight and of the bias from that of batch_norm(x), which
// `first` gives of each element at the first reading, and `again` at the second.
template <typename First, typename Again>
void differentiate(const bfloat16 *x, bfloat16 *dx, float *dweight, float *dbias, Statistics of,
                   Maps maps, First first, Again again)
{
    auto means = maps.wide(of.mean), scales = maps.wide(of.scale);
    const float *const mean = means.begin(), *const scale = scales.begin();
    maps.sum(dbias, dweight, [=](int64_t begin, int64_t place) {
        const float each = first(begin, place);
        return Two{each, each * (read(x[begin + place]) - mean[place])};
    });
    std::vector<float> offset(maps.channels), slope(maps.channels);
    for (int64_t channel = 0; channel < maps.channels; channel++) {
        dweight[channel] *= of.inverse[channel];
        offset[channel] = dbias[channel] / float(maps.rows);
        slope[channel] = dweight[channel] * of.inverse[channel] / float(maps.rows);
    }
    auto offsets = maps.wide(offset.data()), slopes = maps.wide(slope.data());
    const float *const level = offsets.begin(), *const rise = slopes.begin();
    maps.each([=](int64_t begin, int64_t length) {
#pragma GCC ivdep
        for (int64_t place = 0; place < length; place++) {
            const float off = read(x[begin + place]) - mean[place];
            const float left = again(begin, place) - level[place] - rise[place] * off;
            write(dx[begin + place], scale[place] * left);
        }
    });
}

// Writes the gradients for batch_norm(x), or with `maps.relu` for relu(batch_norm(x)).
void differentiate(const bfloat16 *dy, const bfloat16 *x, bfloat16 *dx, float *dweight,
                   float *dbias, float *all, Maps maps)
{
    const Statistics of(all, maps.channels);
    auto scales = maps.wide(of.scale), shifts = maps.wide(of.shift);
    const float *const scale = scales.begin(), *const shift = shifts.begin();
    // The ReLU let through what was more than 0.
    const float least = maps.relu ? 0 : -std::numeric_limits<float>::infinity();
    auto gradient = [=](int64_t begin, int64_t place) {
        const float value = read(x[begin + place]) * scale[place] + shift[place];
        const float passed = read(dy[begin + place]);
        return value > least ? passed : 0;
    };
    differentiate(x, dx, dweight, dbias, of, maps, gradient, gradient);
}

// Writes the gradients for y = relu(batch_norm(x) + plus), that of `plus` too.
void differentiate_sum(const bfloat16 *dy, const bfloat16 *x, const bfloat16 *y, bfloat16 *dx,
                       bfloat16 *dplus, float *dweight, float *dbias, float *all, Maps maps)
{
    auto first = [=](int64_t begin, int64_t place) {
        const float passed = read(dy[begin + place]);
        const float each = read(y[begin + place]) > 0 ? passed : 0;
        write(dplus[begin + place], each);
        return each;
    };
    auto again = [=](int64_t begin, int64_t place) { return read(dplus[begin + place]); };
    differentiate(x, dx, dweight, dbias, Statistics(all, maps.channels), maps, first, again);
}

} // namespace

extern "C" {

void normalize_bfloat16(const bfloat16 *x, const bfloat16 *plus, bfloat16 *y, const float *weight,
                        const float *bias, float *statistics, int64_t rows, int64_t channels,
                        float epsilon, bool relu)
{
    normalize(x, plus, y, weight, bias, statistics, Maps{rows, channels, relu}, epsilon);
}

void differentiate_bfloat16(const bfloat16 *dy, const bfloat16 *x, bfloat16 *dx, float *dweight,
                            float *dbias, float *statistics, int64_t rows, int64_t channels,
                            bool relu)
{
    differentiate(dy, x, dx, dweight, dbias, statistics, Maps{rows, channels, relu});
}

void differentiate_sum_bfloat16(const bfloat16 *dy, const bfloat16 *x, const bfloat16 *y,
                                bfloat16 *dx, bfloat16 *dplus, float *dweight, float *dbias,
                                float *statistics, int64_t rows, int64_t channels)
{
    differentiate_sum(dy, x, y, dx, dplus, dweight, dbias, statistics, Maps{rows, channels, true});
}
}
