// Vectors of numbers, as long as this machine's registers. They are GCC's, which Clang has, too.
// And bfloat16, the upper half of a float.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512BW__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512BW__)
constexpr int register_bytes = 64;
#elif defined(__AVX2__)
constexpr int register_bytes = 32;
#else
constexpr int register_bytes = 16;
#endif

template <typename Number, int lanes>
struct Lanes {
    static constexpr int count = lanes;

    using Vector __attribute__((vector_size(lanes * sizeof(Number)))) = Number;
    using Bytes __attribute__((vector_size(lanes))) = uint8_t;
};

template <typename Vector, typename Number>
Vector load(const Number *from)
{
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

template <typename Vector, typename Number>
void store(Number *to, Vector vector)
{
    std::memcpy(to, &vector, sizeof vector);
}

using bfloat16 = uint16_t;

template <int lanes>
using Floats = typename Lanes<float, lanes>::Vector;

template <int lanes>
Floats<lanes> read(const float *from)
{
    return load<Floats<lanes>>(from);
}

// Returns what floats bfloat16s are: their bits are the upper ones.
template <int lanes>
Floats<lanes> read(const bfloat16 *from)
{
    using Bits = typename Lanes<uint32_t, lanes>::Vector;
    const auto half = load<typename Lanes<bfloat16, lanes>::Vector>(from);
    Bits upper;
#if defined(__AVX512BW__) // for which GCC makes four instructions of one
    if constexpr (lanes == 16)
        upper = (Bits)_mm512_cvtepu16_epi32((__m256i)half);
    else
#endif
        upper = __builtin_convertvector(half, Bits);
    upper <<= 16;
    Floats<lanes> value;
    std::memcpy(&value, &upper, sizeof value);
    return value;
}

template <int lanes>
void write(float *to, Floats<lanes> value)
{
    store(to, value);
}

// Writes the bfloat16 nearest to each float, the even one of two.
template <int lanes>
void write(bfloat16 *to, Floats<lanes> value)
{
#if defined(__AVX512BF16__)
    if constexpr (lanes == 16) { // takes what is next to 0 for 0
        store(to, _mm512_cvtneps_pbh((__m512)value));
        return;
    }
#endif
    using Bits = typename Lanes<uint32_t, lanes>::Vector;
    using Halves = typename Lanes<bfloat16, lanes>::Vector;
    Bits bits;
    std::memcpy(&bits, &value, sizeof bits);
    const Bits number = bits + 0x7fff + (bits >> 16 & 1);
    const Bits upper = (value == value ? number : Bits{} + 0x7fc00000) >> 16; // otherwise NaN
    store(to, __builtin_convertvector(upper, Halves));
}

template <int lanes>
using Integers = typename Lanes<int32_t, lanes>::Vector;

// Writes numbers from 0 to 255 as bytes.
template <int lanes>
void write_bytes(uint8_t *to, Integers<lanes> numbers)
{
#if defined(__AVX512BW__) // for which GCC makes many instructions of one
    if constexpr (lanes == 16) {
        store(to, _mm512_cvtepi32_epi8((__m512i)numbers));
        return;
    }
#endif
    store(to, __builtin_convertvector(numbers, typename Lanes<int32_t, lanes>::Bytes));
}

// Returns what numbers bytes are.
template <int lanes>
Integers<lanes> read_bytes(const uint8_t *from)
{
    const auto bytes = load<typename Lanes<int32_t, lanes>::Bytes>(from);
#if defined(__AVX512BW__)
    if constexpr (lanes == 16)
        return (Integers<lanes>)_mm512_cvtepu8_epi32((__m128i)bytes);
#endif
    return __builtin_convertvector(bytes, Integers<lanes>);
}

// Calls `work(lanes, channel)` for all channels: by whole registers, parts of one, one by one.
template <typename Number, typename Work>
void each_vector(int64_t channels, Work work)
{
    constexpr int most = register_bytes / sizeof(Number);
    int64_t channel = 0;
    for (; channel + most <= channels; channel += most)
        work(Lanes<Number, most>{}, channel);
    for (; channel + most / 4 <= channels; channel += most / 4)
        work(Lanes<Number, most / 4>{}, channel);
    for (; channel < channels; channel++)
        work(Lanes<Number, 1>{}, channel);
}

} // namespace
