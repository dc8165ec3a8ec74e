//! Licence expressions (SPDX), with `/` as the `OR` that it used to be.

/// Whether `expression` can be met with `allowed` alone.
pub fn is_met(expression: &str, allowed: &[&str]) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = either(&words, allowed)?;
    if rest.is_empty() { Ok(met) } else { Err(format!("`{}` is left over", rest.join(" "))) }
}

type Parsed<'a, 'b> = Result<(bool, &'a [&'b str]), String>;

fn either<'a, 'b>(words: &'a [&'b str], allowed: &[&str]) -> Parsed<'a, 'b> {
    let (mut met, mut rest) = both(words, allowed)?;
    while let ["OR", more @ ..] = rest {
        let (next, after) = both(more, allowed)?;
        (met, rest) = (met | next, after);
    }
    Ok((met, rest))
}

fn both<'a, 'b>(words: &'a [&'b str], allowed: &[&str]) -> Parsed<'a, 'b> {
    let (mut met, mut rest) = one(words, allowed)?;
    while let ["AND", more @ ..] = rest {
        let (next, after) = one(more, allowed)?;
        (met, rest) = (met & next, after);
    }
    Ok((met, rest))
}

fn one<'a, 'b>(words: &'a [&'b str], allowed: &[&str]) -> Parsed<'a, 'b> {
    match words {
        ["(", more @ ..] => match either(more, allowed)? {
            (met, [")", rest @ ..]) => Ok((met, rest)),
            _ => Err("a bracket is not closed".to_owned()),
        },
        ["OR" | "AND" | "WITH" | ")", ..] | [] => Err("a licence is missing".to_owned()),
        [licence, "WITH", exception, rest @ ..] => {
            Ok((allowed.contains(&format!("{licence} WITH {exception}").as_str()), rest))
        }
        [licence, rest @ ..] => Ok((allowed.contains(licence), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_met;

    #[test]
    fn one_of_several_is_enough_and_all_of_several_are_needed() {
        let met = |expression| is_met(expression, &["MIT", "ISC", "GPL-2.0 WITH X"]);
        for expression in ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "MIT AND (ISC OR GPL-3.0)", "GPL-2.0 WITH X AND ISC"]
        {
            assert_eq!(met(expression), Ok(true), "{expression}");
        }
        for expression in ["GPL-3.0", "MIT AND GPL-3.0", "MIT AND GPL-3.0 OR GPL-3.0", "GPL-2.0", "MIT WITH X"] {
            assert_eq!(met(expression), Ok(false), "{expression}");
        }
        for expression in ["", "MIT OR", "(MIT", "MIT ISC", "MIT)"] {
            met(expression).expect_err(expression);
        }
    }
}
