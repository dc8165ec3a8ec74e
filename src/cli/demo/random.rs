//! Numbers and words from a seed: two runs of the demo make the same content.

/// xorshift64*: small, fast, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    pub fn pick<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.below(N as u32) as usize]
    }

    pub fn hex(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes * 2 + 16);
        while text.len() < bytes * 2 {
            text.push_str(&format!("{:016x}", self.next()));
        }
        text.truncate(bytes * 2);
        text
    }

    pub fn uuid(&mut self) -> String {
        let hex = self.hex(16);
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }
}

/// What the agents say: words of their own, the frequent ones more often.
pub struct Language(Vec<String>);

impl Language {
    /// The same words whatever the seed: a day later the agents speak the same language.
    pub fn new() -> Self {
        let mut random = Random::new(0x05ea_11f7);
        Self((0..3000).map(|_| word(&mut random)).collect())
    }

    pub fn word(&self, random: &mut Random) -> &str {
        let bound = self.0.len();
        let (first, second) = (random.below(bound as u32) as usize, random.below(bound as u32) as usize);
        &self.0[first * second / bound]
    }

    pub fn sentence(&self, random: &mut Random, words: u32) -> String {
        let mut text = String::new();
        for _ in 0..words {
            text.push_str(self.word(random));
            text.push(' ');
        }
        text
    }
}

fn word(random: &mut Random) -> String {
    const SYLLABLES: [&str; 40] = [
        "re", "con", "ta", "in", "er", "mi", "sta", "tion", "pro", "ve", "de", "li", "ma", "ing", "ser", "vi", "ce",
        "ex", "pec", "ted", "fi", "le", "un", "der", "com", "pu", "te", "a", "gen", "cy", "log", "ous", "per", "form",
        "out", "put", "sche", "du", "ro", "ble",
    ];
    (0..2 + random.below(3)).map(|_| random.pick(SYLLABLES)).collect()
}
