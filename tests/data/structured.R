# Reference values for structured residuals and known covariances.
#
#     cd tests/data && Rscript structured.R > structured.json
#
# writes the tables (CSV, seeded where they are simulated) and prints the fits. Needs nlme, lme4 and jsonlite.
#
# Every fit of nlme and lme4 is held against the dense likelihood written out below, in lme4's convention
#     -1/2 [ m log(2 pi sigma^2) + log|V| (+ log|X' V^-1 X|) + m ],   m = n for ML, n - p for REML,
# and against its maximum, climbed to from the fit: the script stops where a fit is lower by 1e-8, or a parameter
# away by 2e-5 of itself. What neither package can fit is maximised on the dense likelihood from several starts.
#
# `estimates` are in the terms of this package: sigma is the SD of the first stratum in sorted order (nlme's that of
# the first stratum in the rows), ratios are relative to it, fixef_se is sigma (X' V^-1 X)^-1/2 with this sigma.
# fixef_se_package is sqrt(diag(vcov(fit))): for gls by ML that has n / (n - p) in it, for lme and lmer it has not.
# rho_wald are nlme's intervals(), rho_profile 95 % limits by the profile of this fit's criterion.

suppressPackageStartupMessages({
  library(nlme)
  library(lme4)
})
fixef <- nlme::fixef
ranef <- nlme::ranef
invisible(Sys.setlocale("LC_COLLATE", "C")) # factors sorted by code point
RNGversion("4.2.2")

# Tables ------------------------------------------------------------------------------------------------------

write_table <- function(name, table) write.csv(table, paste0(name, ".csv"), row.names = FALSE, quote = FALSE)
write_covariance <- function(name, K, seed) {
  set.seed(seed)
  labels <- sample(rownames(K))
  write.csv(K[labels, labels], paste0(name, ".csv"), quote = FALSE)
}
plain <- function(data) {
  data <- as.data.frame(data)
  data[] <- lapply(data, function(column) if (is.factor(column)) as.character(column) else column)
  data
}

from_nlme <- function() {
  ovary <- plain(Ovary)
  write_table("ovary", transform(ovary, s1 = sin(2 * pi * Time), c1 = cos(2 * pi * Time)))

  orthodont <- plain(Orthodont)
  orthodont$visit <- (orthodont$age - 6) / 2
  set.seed(11)
  orthodont$w <- round(runif(nrow(orthodont), 0.4, 3), 2)
  write_table("orthodont", orthodont)
  set.seed(12)
  write_table("orthodont_gaps", orthodont[sample(nrow(orthodont), 80), ]) # rows dropped, the rest shuffled

  bodyweight <- plain(BodyWeight)
  bodyweight$Diet <- paste0("diet", bodyweight$Diet)
  write_table("bodyweight", bodyweight)
  write_table("pixel", plain(Pixel))
  oats <- plain(Oats)
  names(oats)[names(oats) == "yield"] <- "crop" # a word of Python's
  write_table("oats", oats)
}

from_gallery <- function() {
  for (name in c("sleepstudy", "penicillin")) {
    data <- read.csv(file.path("../../models/data", paste0(name, ".csv")))
    set.seed(21)
    data$w <- round(exp(rnorm(nrow(data), 0, 0.6)), 2)
    write_table(paste0(name, "_weights"), data)
  }
}

groups_of <- function(sizes) rep(sprintf("g%02d", seq_along(sizes)), sizes)

simulated <- function() {
  # Rows of a group repel each other: y loses most of its group mean.
  set.seed(31)
  g <- groups_of(rep(2:5, 6))
  x <- round(rnorm(length(g)), 2)
  e <- rnorm(length(g))
  write_table("cs_negative", data.frame(g, x, y = round(10 + 0.5 * x + e - 0.6 * ave(e, g), 3)))

  set.seed(32)
  for (kind in c("balanced", "unbalanced")) {
    g <- groups_of(if (kind == "balanced") rep(4, 15) else rep(1:6, 3))
    x <- round(rnorm(length(g)), 2)
    u <- rnorm(length(unique(g)), 0, 0.8)[match(g, unique(g))]
    write_table(paste0("cs_positive_", kind), data.frame(g, x, y = round(10 + 0.5 * x + u + rnorm(length(g)), 3)))
  }

  # An alternating series, observed at some of its times, rows shuffled.
  set.seed(33)
  series <- function(k) {
    e <- as.numeric(arima.sim(list(ar = -0.6), 12))
    data.frame(g = sprintf("g%02d", k), time = 1:12, x = round(rnorm(12), 2), e)[sort(sample(12, 8)), ]
  }
  data <- do.call(rbind, lapply(1:10, series))
  data$y <- round(3 + 0.7 * data$x + data$e, 3)
  write_table("ar1_negative", data[sample(nrow(data)), c("g", "time", "x", "y")])
}

relationship <- function(sire, dam) {
  # Numerator relationship matrix by the tabular method (Henderson 1976); 0 is an unknown parent.
  n <- length(sire)
  A <- matrix(0, n + 1, n + 1) # the last row stands for the unknown parent
  parent <- function(k) if (k == 0) n + 1 else k
  for (i in seq_len(n)) {
    s <- parent(sire[i])
    d <- parent(dam[i])
    before <- seq_len(i - 1)
    A[i, before] <- A[before, i] <- (A[s, before] + A[d, before]) / 2
    A[i, i] <- 1 + A[s, d] / 2
  }
  labels <- sprintf("a%02d", seq_len(n))
  matrix(A[seq_len(n), seq_len(n)], n, n, dimnames = list(labels, labels))
}

simulated_pedigree <- function() {
  set.seed(41)
  sire <- c(rep(0, 10), sample(1:4, 16, TRUE), sample(11:16, 20, TRUE))
  dam <- c(rep(0, 10), sample(5:10, 16, TRUE), sample(17:26, 20, TRUE))
  dam[c(30, 38)] <- 0 # one parent unknown
  A <- relationship(sire, dam)
  write_covariance("animals_K", A, 42)
  recorded <- rownames(A)[-(1:6)] # six founders have no record

  draw <- function() setNames(as.numeric(t(chol(A)) %*% rnorm(nrow(A))), rownames(A))
  set.seed(43)
  x <- round(rnorm(length(recorded)), 2)
  y <- 20 + 1.5 * x + 2 * draw()[recorded] + rnorm(length(recorded))
  write_table("animals", data.frame(animal = recorded, x, y = round(y, 3)))

  set.seed(73)
  animal <- rep(recorded, sample(2:4, length(recorded), TRUE))
  n <- length(animal)
  x <- round(runif(n, -1.5, 1.5), 2)
  permanent <- rnorm(length(recorded), 0, 1.2)[match(animal, recorded)]
  y <- 20 + 1.5 * x + 1.8 * draw()[animal] + permanent + rnorm(n)
  a <- draw()
  b <- 0.5 * a + sqrt(0.75) * draw()
  growth <- 20 + 1.5 * x + 1.6 * a[animal] + 1.1 * b[animal] * x + rnorm(n)
  write_table("animals_repeated", data.frame(animal, pe = animal, x, y = round(y, 3), growth = round(growth, 3)))
}

simulated_phylogeny <- function() {
  # Time to the root that two species share, in a tree whose lineages merge at random (Kingman); all tips at 1.
  set.seed(51)
  m <- 24
  K <- matrix(0, m, m)
  lineages <- as.list(seq_len(m))
  heights <- cumsum(rexp(m - 1, choose(m:2, 2)))
  heights <- heights / (1.1 * heights[m - 1]) # a common stem: the root is not at zero
  for (h in heights) {
    pair <- sample(length(lineages), 2)
    K[lineages[[pair[1]]], lineages[[pair[2]]]] <- 1 - h
    K[lineages[[pair[2]]], lineages[[pair[1]]]] <- 1 - h
    lineages <- c(lineages[-pair], list(unlist(lineages[pair])))
  }
  diag(K) <- 1
  labels <- sprintf("s%02d", seq_len(m))
  K <- matrix(round(K, 6), m, m, dimnames = list(labels, labels))
  write_covariance("species_K", K, 52)
  set.seed(73)
  x <- round(rnorm(m), 2)
  y <- 5 + 0.8 * x + 2 * as.numeric(t(chol(K)) %*% rnorm(m)) + 0.6 * rnorm(m)
  write_table("species", data.frame(species = labels, x, y = round(y, 3)))
}

read_table <- function(name) {
  path <- paste0(name, ".csv")
  if (!file.exists(path)) path <- file.path("../../models/data", path)
  read.csv(path, stringsAsFactors = TRUE)
}
read_covariance <- function(name) as.matrix(read.csv(paste0(name, ".csv"), row.names = 1, check.names = FALSE))

# The dense likelihood ----------------------------------------------------------------------------------------

bars <- function(term) {
  # The bar terms of a formula's right-hand side, in the order in which they are written.
  if (!is.call(term)) return(list())
  if (identical(term[[1]], quote(`(`)) && is.call(term[[2]])) {
    if (as.character(term[[2]][[1]]) %in% c("|", "||")) return(list(term[[2]]))
  }
  if (!identical(term[[1]], quote(`+`))) return(list())
  unlist(lapply(as.list(term)[-1], bars), recursive = FALSE)
}

our_names <- function(names, data) {
  # R's names of columns -> ours: (Intercept) -> Intercept, SexMale -> Sex[T.Male], I(day^2) -> I(day ** 2)
  for (column in names(Filter(is.factor, data))) {
    for (label in levels(data[[column]])) {
      names <- gsub(paste0("\\b", column, label, "\\b"), paste0(column, "[T.", label, "]"), names)
    }
  }
  gsub("\\^", " ** ", sub("^\\(Intercept\\)$", "Intercept", names))
}

columns_of <- function(formula, data) {
  X <- model.matrix(formula, data)
  matrix(X, nrow(X), dimnames = list(NULL, our_names(colnames(X), data)))
}

labels_of <- function(group, data) do.call(paste, c(lapply(group, function(g) as.character(data[[g]])), sep = ":"))

make_level <- function(bar, k, data, covariance, known) {
  group <- all.vars(bar[[3]])
  index <- labels_of(group, data)
  columns <- columns_of(eval(call("~", bar[[2]])), data)
  labels <- sort(unique(index))
  name <- covariance[[paste(group, collapse = ":")]]
  K <- if (is.null(name)) diag(length(labels)) else read_covariance(name)
  if (is.null(name)) dimnames(K) <- list(labels, labels)
  known <- known && !is.null(name)
  stopifnot(all(labels %in% rownames(K)))
  list(
    name = paste0("u", k + 1), group = group, index = index, columns = columns, K = K, known = known,
    effects = colnames(columns), r = ncol(columns),
    correlated = ncol(columns) > 1 && identical(bar[[1]], quote(`|`))
  )
}

theta_at <- function(level) {
  # Positions of the free entries of a level's relative factor, column by column.
  if (level$known) return(matrix(0L, 0, 2))
  at <- which(lower.tri(diag(level$r), diag = TRUE), arr.ind = TRUE)
  if (level$correlated) at else at[at[, 1] == at[, 2], , drop = FALSE]
}

make_spec <- function(formula, data, residual, covariance, known) {
  text <- as.formula(formula)
  table <- read_table(data)
  terms <- bars(text[[3]])
  fixed <- if (length(terms)) nobars(text) else text
  spec <- list(y = table[[all.vars(text)[1]]], X = columns_of(fixed[-2], table), data = table)
  spec$levels <- Map(function(bar, k) make_level(bar, k, table, covariance, known), terms, seq_along(terms))
  spec$w <- if (is.null(residual$weights)) rep(1, nrow(table)) else table[[residual$weights]]
  spec$by <- if (is.null(residual$by)) NULL else factor(table[[residual$by]])
  if (residual$structure %in% c("ar1", "cs")) {
    group <- labels_of(strsplit(residual$group, ":")[[1]], table)
    spec$together <- outer(group, group, "==")
    time <- if (is.null(residual$time)) ave(seq_along(group), group, FUN = seq_along) else table[[residual$time]]
    spec$lag <- abs(outer(time, time, "-"))
    spec$lowest <- if (residual$structure == "cs") -1 / (max(table(group)) - 1) else -1
  }
  if (residual$structure == "known") {
    K <- read_covariance(residual$covariance)
    labels <- as.character(table[[residual$group]])
    spec$R <- K[labels, labels]
  }
  spec$structure <- residual$structure
  spec
}

rho_free <- function(rho, lowest) log((rho - lowest) / (1 - rho))

natural <- function(spec, phi) {
  at <- 0
  take <- function(n) {
    at <<- at + n
    phi[at - n + seq_len(n)]
  }
  lambdas <- lapply(spec$levels, function(level) {
    where <- theta_at(level)
    lambda <- if (level$known) diag(level$r) else matrix(0, level$r, level$r)
    lambda[where] <- take(nrow(where))
    lambda
  })
  ratio <- if (is.null(spec$by)) numeric() else c(1, exp(take(nlevels(spec$by) - 1)))
  rho <- if (is.null(spec$lag)) NULL else {
    odds <- exp(take(1))
    (odds + spec$lowest) / (1 + odds)
  }
  list(lambdas = lambdas, ratio = setNames(ratio, levels(spec$by)), rho = rho)
}

start_at <- function(spec, lambdas, ratio, rho) {
  theta <- unlist(Map(function(level, lambda) lambda[theta_at(level)], spec$levels, lambdas))
  c(theta, log(ratio[-1]), if (!is.null(rho)) rho_free(rho, spec$lowest))
}

relative_V <- function(spec, parameters) {
  n <- length(spec$y)
  C <- switch(spec$structure,
    ar1 = spec$together * parameters$rho^spec$lag,
    cs = spec$together * ifelse(diag(n) == 1, 1, parameters$rho),
    known = spec$R,
    diag(n)
  )
  sd <- 1 / sqrt(spec$w)
  if (length(parameters$ratio)) sd <- sd * parameters$ratio[as.integer(spec$by)]
  V <- C * outer(sd, sd)
  for (k in seq_along(spec$levels)) {
    level <- spec$levels[[k]]
    Z <- level$columns %*% parameters$lambdas[[k]]
    V <- V + tcrossprod(Z) * level$K[level$index, level$index]
  }
  V
}

evaluate <- function(spec, phi, method) {
  parameters <- natural(spec, phi)
  L <- t(chol(relative_V(spec, parameters)))
  X <- forwardsolve(L, spec$X)
  y <- forwardsolve(L, spec$y)
  P <- crossprod(X)
  beta <- solve(P, crossprod(X, y))[, 1]
  residual <- y - X %*% beta
  m <- length(y) - if (method == "REML") ncol(X) else 0
  sigma <- sqrt(sum(residual^2) / m)
  logdet <- 2 * sum(log(diag(L))) + if (method == "REML") log(det(P)) else 0
  list(
    loglik = -(m * log(2 * pi * sigma^2) + logdet + m) / 2, sigma = sigma, beta = beta,
    se = sigma * sqrt(diag(solve(P))), parameters = parameters, weighted = backsolve(t(L), residual)[, 1]
  )
}

derivatives <- function(f, x, h = 2e-3) {
  # Gradient and Hessian by differences of fourth and second order.
  k <- length(x)
  unit <- function(i) h * (seq_len(k) == i)
  gradient <- vapply(seq_len(k), function(i) {
    (8 * (f(x + unit(i)) - f(x - unit(i))) - (f(x + 2 * unit(i)) - f(x - 2 * unit(i)))) / (12 * h)
  }, 0)
  hessian <- matrix(0, k, k)
  for (i in seq_len(k)) {
    for (j in seq_len(i)) {
      a <- unit(i)
      b <- unit(j)
      hessian[i, j] <- hessian[j, i] <- (f(x + a + b) - f(x + a - b) - f(x - a + b) + f(x - a - b)) / (4 * h^2)
    }
  }
  list(gradient = gradient, hessian = hessian)
}

climb <- function(spec, method, start) {
  # nlminb, then Newton's steps while they help.
  f <- function(phi) tryCatch(-evaluate(spec, phi, method)$loglik, error = function(e) 1e10)
  if (!length(start)) return(list(phi = start, gradient = 0))
  phi <- nlminb(start, f, control = list(rel.tol = 1e-15, x.tol = 1e-9, eval.max = 2000, iter.max = 1000))$par
  slope <- derivatives(f, phi)
  for (step in 1:6) {
    move <- tryCatch(phi - solve(slope$hessian, slope$gradient), error = function(e) phi)
    if (any(!is.finite(move)) || f(move) > f(phi) + 1e-9) break
    there <- derivatives(f, move)
    if (max(abs(there$gradient)) >= max(abs(slope$gradient))) break
    phi <- move
    slope <- there
  }
  list(phi = phi, gradient = max(abs(slope$gradient)))
}

named <- function(spec, found) {
  # Every parameter under our names; SDs in units of y.
  out <- c(setNames(found$beta, paste0("beta[", colnames(spec$X), "]")), sigma = found$sigma)
  for (k in seq_along(spec$levels)) {
    level <- spec$levels[[k]]
    if (level$known) next
    D <- tcrossprod(found$parameters$lambdas[[k]])
    sds <- paste0("sigma_", level$name, if (level$r > 1) paste0("[", level$effects, "]"))
    out[sds] <- found$sigma * sqrt(diag(D))
    if (level$correlated) {
      R <- D / sqrt(outer(diag(D), diag(D)))
      for (i in 2:level$r) for (j in seq_len(i - 1)) {
        out[paste0("corr_", level$name, "[", level$effects[j], ", ", level$effects[i], "]")] <- R[i, j]
      }
    }
  }
  ratio <- found$parameters$ratio[-1]
  if (length(ratio)) out[paste0("sigma_ratio[", names(ratio), "]")] <- ratio
  if (!is.null(found$parameters$rho)) out["rho"] <- found$parameters$rho
  out
}

modes <- function(spec, found) {
  # E(u | y) for every label of a level, those without a row included.
  per_level <- function(level, lambda) {
    cross <- level$columns %*% tcrossprod(lambda) * found$weighted
    u <- level$K[, level$index, drop = FALSE] %*% cross
    matrix(u, nrow(u), dimnames = list(rownames(level$K), level$effects))
  }
  out <- Map(per_level, spec$levels, found$parameters$lambdas)
  setNames(out, vapply(spec$levels, `[[`, "", "name"))
}

profile_rho <- function(spec, method, best) {
  # 95 % limits: where the likelihood, maximised over all else, has fallen by 3.84 / 2. rho is the last of phi.
  k <- length(best)
  top <- evaluate(spec, best, method)$loglik
  fallen <- function(free) {
    if (k == 1) return(2 * (top - evaluate(spec, free, method)$loglik) - qchisq(0.95, 1))
    f <- function(rest) -evaluate(spec, c(rest, free), method)$loglik
    2 * (top + nlminb(best[-k], f, control = list(rel.tol = 1e-14))$objective) - qchisq(0.95, 1)
  }
  limits <- vapply(c(-1, 1), function(side) {
    uniroot(fallen, sort(best[k] + side * c(0, 3)), extendInt = if (side > 0) "upX" else "downX", tol = 1e-9)$root
  }, 0)
  odds <- exp(limits)
  (odds + spec$lowest) / (1 + odds)
}

# What the packages say, as our parameters --------------------------------------------------------------------

from_package <- function(fit, spec) {
  if (inherits(fit, "merMod")) return(from_lme4(fit, spec))
  structures <- fit$modelStruct
  ratio <- numeric()
  if (!is.null(spec$by)) {
    part <- structures$varStruct
    if (inherits(part, "varComb")) part <- Filter(function(one) inherits(one, "varIdent"), part)[[1]]
    # nlme's reference is the first stratum of the rows, ours the first in order.
    ratio <- coef(part, unconstrained = FALSE, allCoef = TRUE)[levels(spec$by)]
  }
  first <- if (length(ratio)) ratio[[1]] else 1
  sigma <- fit$sigma * first
  rho <- if (is.null(spec$lag)) NULL else coef(structures$corStruct, unconstrained = FALSE)[[1]]
  lambdas <- lapply(spec$levels, function(level) {
    D <- pdMatrix(structures$reStruct)[[tail(level$group, 1)]] / first^2
    t(chol(D))
  })
  beta <- if (inherits(fit, "gls")) coef(fit) else fixef(fit)
  # vcov of a gls by ML has n / (n - p) in it; that of lme has not (only summary() of an lme has).
  n <- length(spec$y)
  shrink <- if (inherits(fit, "gls") && fit$method == "ML") (n - length(beta)) / n else 1
  list(
    loglik = as.numeric(logLik(fit)), sigma = sigma, beta = unname(beta), se = sqrt(shrink * diag(vcov(fit))),
    se_package = sqrt(diag(vcov(fit))), parameters = list(lambdas = lambdas, ratio = ratio / first, rho = rho),
    modes = setNames(lapply(spec$levels, function(level) {
      table <- if (length(spec$levels) == 1) ranef(fit) else ranef(fit)[[tail(level$group, 1)]]
      matrix(as.matrix(table), nrow(table), dimnames = list(gsub("/", ":", rownames(table)), level$effects))
    }), vapply(spec$levels, `[[`, "", "name"))
  )
}

from_lme4 <- function(fit, spec) {
  labels <- vapply(spec$levels, function(level) paste(level$group, collapse = ":"), "")
  lambdas <- lapply(labels, function(label) {
    D <- as.matrix(VarCorr(fit)[[label]]) / sigma(fit)^2
    if (all(D == 0)) D else t(chol(D))
  })
  se <- sqrt(diag(as.matrix(vcov(fit))))
  list(
    loglik = as.numeric(logLik(fit)), sigma = sigma(fit), beta = unname(lme4::fixef(fit)), se = se, se_package = se,
    parameters = list(lambdas = lambdas, ratio = numeric(), rho = NULL),
    modes = setNames(lapply(seq_along(labels), function(k) {
      table <- lme4::ranef(fit)[[labels[k]]]
      matrix(as.matrix(table), nrow(table), dimnames = list(rownames(table), spec$levels[[k]]$effects))
    }), vapply(spec$levels, `[[`, "", "name"))
  )
}

# One fit -----------------------------------------------------------------------------------------------------

entries <- list()

head_of <- function(spec, modes) {
  # A few groups of every level, and all that have no row.
  pick <- function(level, table) {
    some <- rownames(table)[seq(1, nrow(table), length.out = min(4, nrow(table)))]
    rows <- table[union(some, setdiff(rownames(table), level$index)), , drop = FALSE]
    columns <- setNames(colnames(rows), colnames(rows))
    lapply(columns, function(effect) as.list(setNames(rows[, effect], rownames(rows))))
  }
  setNames(Map(pick, spec$levels, modes), vapply(spec$levels, `[[`, "", "name"))
}

starts_of <- function(spec) {
  # Small, ordinary and large variances; no, weak and strong correlation.
  lapply(list(c(0.2, 0.1), c(1, 0.3), c(3, 0.6)), function(size) {
    lambdas <- lapply(spec$levels, function(level) size[1] * diag(level$r))
    ratio <- if (is.null(spec$by)) numeric() else rep(1, nlevels(spec$by))
    start_at(spec, lambdas, ratio, if (is.null(spec$lag)) NULL else size[2])
  })
}

record <- function(name, data, formula, residual = list(structure = "iid"), fit = NULL, covariance = NULL,
                   known = FALSE, profile = FALSE) {
  for (method in c("ML", "REML")) {
    spec <- make_spec(formula, data, residual, covariance, known)
    done <- if (is.null(fit)) by_climbing(spec, method) else by_package(spec, method, fit, data)
    found <- done$found
    coef <- colnames(spec$X)
    if (done$top$gradient > 1e-6 || done$shortfall > 1e-8 || done$distance > 2e-5) stop(name, " isn't at its maximum")
    has_rho <- !is.null(fit) && !is.null(found$parameters$rho)
    wald <- if (has_rho) as.numeric(intervals(done$fit, which = "var-cov")$corStruct[1, c("lower", "upper")])
    entry <- list(
      name = name, r = done$r, data = data, formula = formula, residual = residual, covariance = covariance,
      known = known, method = method, n = length(spec$y), p = length(coef), loglik = found$loglik,
      fixef = as.list(setNames(found$beta, coef)), fixef_se = as.list(setNames(unname(found$se), coef)),
      fixef_se_package = if (!is.null(fit)) as.list(setNames(unname(found$se_package), coef)),
      estimates = as.list(named(spec, found)), ranef = head_of(spec, found$modes),
      rho_wald = wald,
      rho_profile = if (profile) profile_rho(spec, method, done$top$phi)
    )
    entries[[length(entries) + 1]] <<- Filter(Negate(is.null), entry)
    message(sprintf(
      "%-36s %-4s %15.9f  lower by %.0e, away by %.0e  %s", name, method, found$loglik, done$shortfall, done$distance,
      paste(names(named(spec, found)), signif(named(spec, found), 3), collapse = ", ")
    ))
  }
}

by_climbing <- function(spec, method) {
  climbs <- lapply(starts_of(spec), function(start) climb(spec, method, start))
  logliks <- vapply(climbs, function(one) evaluate(spec, one$phi, method)$loglik, 0)
  top <- climbs[[which.max(logliks)]]
  found <- evaluate(spec, top$phi, method)
  found$modes <- modes(spec, found)
  how <- if (length(top$phi)) "the highest of three climbs on the dense likelihood" else "the dense formula"
  list(top = top, found = found, shortfall = 0, distance = 0, r = paste(how, "in structured.R"))
}

by_package <- function(spec, method, fit, data) {
  call <- do.call(substitute, list(fit, list(method = method, reml = method == "REML")))
  value <- suppressMessages(suppressWarnings(
    eval(call, list2env(setNames(list(spec$data), data), parent = globalenv()))
  ))
  found <- from_package(value, spec)
  start <- start_at(spec, found$parameters$lambdas, found$parameters$ratio, found$parameters$rho)
  same <- evaluate(spec, start, method)
  check_against_dense(found, same, modes(spec, same))
  top <- climb(spec, method, start)
  highest <- evaluate(spec, top$phi, method)
  ours <- named(spec, found)
  best <- named(spec, highest)
  away <- abs(ours - best) / pmax(abs(best), 1e-6)
  list(
    fit = value, top = top, found = found, shortfall = max(highest$loglik - same$loglik, 0),
    distance = max(away[!grepl("^beta", names(away))]),
    r = gsub(" +", " ", paste(deparse(call, width.cutoff = 500), collapse = " "))
  )
}

check_against_dense <- function(found, same, modes) {
  # The package's own numbers at its own estimates: one likelihood, one beta, one set of standard errors and modes.
  close <- function(a, b, tolerance) max(abs(a - b), 0) <= tolerance
  stopifnot(
    close(found$loglik, same$loglik, 1e-8),
    close(found$sigma / same$sigma, 1, 1e-7),
    close(found$beta, same$beta, 1e-7 * max(same$se)),
    close(found$se / same$se, 1, 1e-7),
    all(unlist(Map(function(a, b) close(a[rownames(b), ], b, 1e-6 * same$sigma), found$modes, modes)))
  )
}

# The fits ----------------------------------------------------------------------------------------------------

from_nlme()
from_gallery()
simulated()
simulated_pedigree()
simulated_phylogeny()

# As tight as nlminb goes; it may then say that it can go no further, and `shortfall` says how far from the top it is.
gls_tight <- glsControl(maxIter = 500, msMaxIter = 1000, tolerance = 1e-12)
lme_tight <- lmeControl(
  maxIter = 500, msMaxIter = 2000, msMaxEval = 5000, tolerance = 1e-12, niterEM = 50,
  rel.tol = 1e-15, x.tol = 1e-11, returnObject = TRUE
)
lmer_tight <- lmerControl(
  calc.derivs = FALSE, optimizer = "nlminbwrap", optCtrl = list(rel.tol = 1e-15, x.tol = 1e-11)
)

strata <- list(structure = "strata", by = "Sex")
ar1 <- list(structure = "ar1", group = "Subject")
ar1_visit <- c(ar1, time = "visit")
cs <- list(structure = "cs", group = "Subject")

# No random effects: gls

record("gls ar1", "ovary", "follicles ~ s1 + c1", list(structure = "ar1", group = "Mare"), profile = TRUE,
  fit = quote(gls(follicles ~ s1 + c1, ovary, correlation = corAR1(form = ~ 1 | Mare),
    method = method, control = gls_tight)))
record("gls cs", "orthodont", "distance ~ age + Sex", cs, profile = TRUE,
  fit = quote(gls(distance ~ age + Sex, orthodont, correlation = corCompSymm(form = ~ 1 | Subject),
    method = method, control = gls_tight)))
record("gls strata", "orthodont", "distance ~ age + Sex", strata,
  fit = quote(gls(distance ~ age + Sex, orthodont, weights = varIdent(form = ~ 1 | Sex),
    method = method, control = gls_tight)))
record("gls strata ar1", "orthodont", "distance ~ age + Sex", c(ar1, by = "Sex"), profile = TRUE,
  fit = quote(gls(distance ~ age + Sex, orthodont, weights = varIdent(form = ~ 1 | Sex),
    correlation = corAR1(form = ~ 1 | Subject), method = method, control = gls_tight)))
record("gls strata cs", "orthodont", "distance ~ age + Sex", c(cs, by = "Sex"), profile = TRUE,
  fit = quote(gls(distance ~ age + Sex, orthodont, weights = varIdent(form = ~ 1 | Sex),
    correlation = corCompSymm(form = ~ 1 | Subject), method = method, control = gls_tight)))
record("gls ar1 gaps", "orthodont_gaps", "distance ~ age + Sex", ar1_visit,
  fit = quote(gls(distance ~ age + Sex, orthodont_gaps, correlation = corAR1(form = ~ visit | Subject),
    method = method, control = gls_tight)))
record("gls weights strata", "orthodont", "distance ~ age + Sex", c(strata, weights = "w"),
  fit = quote(gls(distance ~ age + Sex, orthodont,
    weights = varComb(varFixed(~ I(1 / w)), varIdent(form = ~ 1 | Sex)), method = method, control = gls_tight)))
record("gls weights ar1", "orthodont", "distance ~ age + Sex", c(ar1, weights = "w"),
  fit = quote(gls(distance ~ age + Sex, orthodont, weights = varFixed(~ I(1 / w)),
    correlation = corAR1(form = ~ 1 | Subject), method = method, control = gls_tight)))
record("gls weights strata cs", "orthodont", "distance ~ age + Sex", c(cs, weights = "w", by = "Sex"),
  fit = quote(gls(distance ~ age + Sex, orthodont,
    weights = varComb(varFixed(~ I(1 / w)), varIdent(form = ~ 1 | Sex)),
    correlation = corCompSymm(form = ~ 1 | Subject), method = method, control = gls_tight)))
record("gls ar1 negative gaps", "ar1_negative", "y ~ x",
  list(structure = "ar1", group = "g", time = "time"), profile = TRUE,
  fit = quote(gls(y ~ x, ar1_negative, correlation = corAR1(-0.3, form = ~ time | g),
    method = method, control = gls_tight)))

# Compound symmetry and the random intercept

for (sign in c("negative", "positive_balanced", "positive_unbalanced")) {
  data <- paste0("cs_", sign)
  record(paste("gls", gsub("_", " ", data)), data, "y ~ x", list(structure = "cs", group = "g"), profile = TRUE,
    fit = substitute(gls(y ~ x, DATA, correlation = corCompSymm(form = ~ 1 | g),
      method = method, control = gls_tight), list(DATA = as.name(data))))
  if (sign == "negative") {
    record("lmer cs negative", data, "y ~ x + (1 | g)",
      fit = quote(lmer(y ~ x + (1 | g), cs_negative, REML = reml, control = lmer_tight)))
  } else {
    record(paste("lme", gsub("_", " ", data)), data, "y ~ x + (1 | g)",
      fit = substitute(lme(y ~ x, DATA, random = ~ 1 | g,
        method = method, control = lme_tight), list(DATA = as.name(data))))
  }
}

# Random effects and a structured residual: lme

record("lme strata", "orthodont", "distance ~ age + Sex + (1 | Subject)", strata,
  fit = quote(lme(distance ~ age + Sex, orthodont, random = ~ 1 | Subject, weights = varIdent(form = ~ 1 | Sex),
    method = method, control = lme_tight)))
record("lme ar1", "orthodont", "distance ~ age + Sex + (1 | Subject)", ar1,
  fit = quote(lme(distance ~ age + Sex, orthodont, random = ~ 1 | Subject, correlation = corAR1(form = ~ 1 | Subject),
    method = method, control = lme_tight)))
record("lme ar1 gaps", "orthodont_gaps", "distance ~ age + Sex + (1 | Subject)", ar1_visit,
  fit = quote(lme(distance ~ age + Sex, orthodont_gaps, random = ~ 1 | Subject,
    correlation = corAR1(form = ~ visit | Subject), method = method, control = lme_tight)))
record("lme weights strata ar1 gaps", "orthodont_gaps", "distance ~ age + Sex + (1 | Subject)",
  c(ar1_visit, weights = "w", by = "Sex"),
  fit = quote(lme(distance ~ age + Sex, orthodont_gaps, random = ~ 1 | Subject,
    weights = varComb(varFixed(~ I(1 / w)), varIdent(form = ~ 1 | Sex)),
    correlation = corAR1(form = ~ visit | Subject), method = method, control = lme_tight)))
record("lme slopes strata", "orthodont", "distance ~ age * Sex + (1 + age | Subject)", strata,
  fit = quote(lme(distance ~ age * Sex, orthodont, random = ~ age | Subject, weights = varIdent(form = ~ 1 | Sex),
    method = method, control = lme_tight)))
record("lme slope cs", "orthodont", "distance ~ age + Sex + (0 + age | Subject)", cs,
  fit = quote(lme(distance ~ age + Sex, orthodont, random = ~ 0 + age | Subject,
    correlation = corCompSymm(form = ~ 1 | Subject), method = method, control = lme_tight)))
record("lme ar1 ovary", "ovary", "follicles ~ s1 + c1 + (1 | Mare)", list(structure = "ar1", group = "Mare"),
  fit = quote(lme(follicles ~ s1 + c1, ovary, random = ~ 1 | Mare, correlation = corAR1(form = ~ 1 | Mare),
    method = method, control = lme_tight)))
record("lme diagonal ar1 ovary", "ovary", "follicles ~ s1 + c1 + (1 + s1 || Mare)",
  list(structure = "ar1", group = "Mare"),
  fit = quote(lme(follicles ~ s1 + c1, ovary, random = list(Mare = pdDiag(~s1)),
    correlation = corAR1(form = ~ 1 | Mare), method = method, control = lme_tight)))
record("lme slopes ar1 bodyweight", "bodyweight", "weight ~ Time * Diet + (1 + Time | Rat)",
  list(structure = "ar1", group = "Rat", time = "Time"),
  fit = quote(lme(weight ~ Time * Diet, bodyweight, random = ~ Time | Rat,
    correlation = corAR1(0.5, form = ~ Time | Rat), method = method, control = lme_tight)))
record("lme slopes strata ar1 bodyweight", "bodyweight", "weight ~ Time * Diet + (1 + Time | Rat)",
  list(structure = "ar1", group = "Rat", time = "Time", by = "Diet"),
  fit = quote(lme(weight ~ Time * Diet, bodyweight, random = ~ Time | Rat, weights = varIdent(form = ~ 1 | Diet),
    correlation = corAR1(0.5, form = ~ Time | Rat), method = method, control = lme_tight)))
record("lme nested strata pixel", "pixel", "pixel ~ day + I(day^2) + (1 | Dog:Side) + (1 + day | Dog)",
  list(structure = "strata", by = "Side"),
  fit = quote(lme(pixel ~ day + I(day^2), pixel, random = list(Dog = ~day, Side = ~1),
    weights = varIdent(form = ~ 1 | Side), method = method, control = lme_tight)))
record("lme nested ar1 pixel", "pixel", "pixel ~ day + I(day^2) + (1 | Dog:Side) + (1 + day | Dog)",
  list(structure = "ar1", group = "Dog:Side", time = "day"),
  fit = quote(lme(pixel ~ day + I(day^2), pixel, random = list(Dog = ~day, Side = ~1),
    correlation = corAR1(0.3, form = ~ day | Dog / Side), method = method, control = lme_tight)))
record("lme nested strata oats", "oats", "crop ~ nitro + (1 | Block:Variety) + (1 | Block)",
  list(structure = "strata", by = "Variety"),
  fit = quote(lme(crop ~ nitro, oats, random = ~ 1 | Block / Variety, weights = varIdent(form = ~ 1 | Variety),
    method = method, control = lme_tight)))

# Weights: lmer

record("lmer weights", "sleepstudy_weights", "Reaction ~ Days + (1 | Subject)",
  list(structure = "iid", weights = "w"),
  fit = quote(lmer(Reaction ~ Days + (1 | Subject), sleepstudy_weights, weights = w, REML = reml,
    control = lmer_tight)))
record("lmer weights slopes", "sleepstudy_weights", "Reaction ~ Days + (1 + Days | Subject)",
  list(structure = "iid", weights = "w"),
  fit = quote(lmer(Reaction ~ Days + (1 + Days | Subject), sleepstudy_weights, weights = w, REML = reml,
    control = lmer_tight)))
record("lmer weights crossed", "penicillin_weights", "diameter ~ 1 + (1 | plate) + (1 | sample)",
  list(structure = "iid", weights = "w"),
  fit = quote(lmer(diameter ~ 1 + (1 | plate) + (1 | sample), penicillin_weights, weights = w, REML = reml,
    control = lmer_tight)))

# What neither package fits: crossed levels and a structured residual, known covariances

record("crossed strata", "penicillin_weights", "diameter ~ 1 + (1 | plate) + (1 | sample)",
  list(structure = "strata", by = "sample"))
record("crossed ar1", "penicillin_weights", "diameter ~ 1 + (1 | plate) + (1 | sample)",
  list(structure = "ar1", group = "plate"))
record("animal", "animals", "y ~ x + (1 | animal)", covariance = list(animal = "animals_K"))
record("animal permanent", "animals_repeated", "y ~ x + (1 | animal) + (1 | pe)",
  covariance = list(animal = "animals_K"))
record("animal slopes", "animals_repeated", "growth ~ x + (1 + x | animal)", covariance = list(animal = "animals_K"))
record("animal slopes diagonal", "animals_repeated", "growth ~ x + (1 + x || animal)",
  covariance = list(animal = "animals_K"))
record("animal cs", "animals_repeated", "y ~ x + (1 | animal)",
  list(structure = "cs", group = "pe"), covariance = list(animal = "animals_K"))
record("phylogeny", "species", "y ~ x + (1 | species)", covariance = list(species = "species_K"))
record("animal known", "animals_repeated", "y ~ x + (1 | animal)",
  covariance = list(animal = "animals_K"), known = TRUE)
record("animal known permanent", "animals_repeated", "y ~ x + (1 | animal) + (1 | pe)",
  covariance = list(animal = "animals_K"), known = TRUE)
record("phylogeny known residual", "species", "y ~ x",
  list(structure = "known", group = "species", covariance = "species_K"))

out <- list(
  made_with = sprintf(
    "R %s, nlme %s, lme4 %s; Rscript structured.R > structured.json",
    getRversion(), packageVersion("nlme"), packageVersion("lme4")
  ),
  fits = entries
)
cat(jsonlite::toJSON(out, digits = NA, auto_unbox = TRUE, null = "null", pretty = 1), "\n")
