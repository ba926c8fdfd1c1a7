#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| grantflow_tests::prop::sealed(data));
