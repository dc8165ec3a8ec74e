//! Arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    sealift::allocator::give_memory_back();
    sealift::cli::main()
}
