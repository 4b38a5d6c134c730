# A posterior by rstanarm or brms: prints one JSON line, writes the draws as doubles (draw, chain, parameter).
# Rscript posterior.R package=rstanarm table=... formula=... groups=a,b draws= tune= chains= seed= out= prior...=R text
given <- strsplit(commandArgs(trailingOnly = TRUE), "=", fixed = TRUE)
args <- setNames(lapply(given, function(x) paste(x[-1], collapse = "=")), vapply(given, `[`, "", 1))
number <- function(name) as.integer(args[[name]])
quote_ <- function(text) encodeString(text, quote = '"')
if (!requireNamespace(args$package, quietly = TRUE)) {
  cat('{"status": "not installed"}\n')
  quit()
}
suppressPackageStartupMessages(library(args$package, character.only = TRUE))
data <- read.csv(args$table)
for (name in strsplit(args$groups, ",")[[1]]) data[[name]] <- factor(data[[name]])
priors <- lapply(args[grep("^prior", names(args))], function(text) eval(parse(text = text)))
common <- list(
  formula = as.formula(args$formula), data = data, chains = number("chains"), seed = number("seed"),
  iter = number("tune") + number("draws"), warmup = number("tune"), refresh = 0,
  cores = min(parallel::detectCores(), number("chains"))
)
began <- proc.time()[["elapsed"]]
fit <- suppressWarnings(do.call(if (args$package == "brms") brm else stan_lmer, c(common, priors)))
draws <- as.array(fit)
seconds <- proc.time()[["elapsed"]] - began
done <- as.numeric(Sys.time())
status <- readLines("/proc/self/status")
peak <- 1024 * as.numeric(gsub("\\D", "", grep("^VmHWM", status, value = TRUE)))
stanfit <- if (args$package == "brms") fit$fit else fit$stanfit
divergences <- sum(vapply(rstan::get_sampler_params(stanfit, inc_warmup = FALSE),
                          function(chain) sum(chain[, "divergent__"]), 0))
names_ <- dimnames(draws)[[3]]
keep <- !grepl("^(lp__|lprior|log-posterior|mean_PPD|prior_)", names_)
connection <- file(args$out, "wb")
writeBin(as.double(draws[, , keep]), connection)
close(connection)
cat(sprintf(
  '{"status": "ok", "version": "%s", "seconds": %.6f, "done": %.6f, "peak": %.0f, "divergences": %d, "names": [%s]}\n',
  packageVersion(args$package), seconds, done, if (length(peak)) peak else 0, as.integer(divergences),
  paste(quote_(names_[keep]), collapse = ", ")))
